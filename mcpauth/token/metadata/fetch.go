// Package metadata fetches what authorization servers publish: small documents, within
// bounds, of which the metadata says where the others are (RFC 8414, OpenID Connect
// Discovery).
package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// MaxBody is the size in bytes up to which a document is read.
const MaxBody = 1 << 20

const maxRedirects = 3

// NewClient makes a client for the few requests that documents need. Connections are
// not kept: the next request is minutes away.
func NewClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:    5 * time.Second,
			ForceAttemptHTTP2:      true,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: sameOrigin,
	}
}

// sameOrigin keeps a redirect from choosing another host to get a document from, or
// from making the gateway ask hosts that only it can reach.
func sameOrigin(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if first := via[0].URL; req.URL.Scheme != first.Scheme || req.URL.Host != first.Host {
		return errors.New("redirect to another host refused; configure the final URL")
	}
	return nil
}

// Get returns the body of a successful answer. No error repeats the query of the address.
func Get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("invalid URL")
	}
	where := req.URL.Host + req.URL.Path
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	resp, err := client.Do(req)
	if err != nil {
		// The error of the client repeats the whole URL, query included.
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", where, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if len(body) > MaxBody {
		return nil, fmt.Errorf("%s: the answer is larger than %d bytes", where, MaxBody)
	}
	return body, nil
}

// ParseURL reads the address of what is to be fetched. Whether it may be fetched
// without TLS is for the environment to say.
func ParseURL(address string) (*url.URL, error) {
	parsed, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("the URL is malformed")
	case parsed.Host == "" || parsed.Hostname() == "":
		return nil, errors.New("the URL has no host")
	case parsed.User != nil:
		return nil, errors.New("the URL holds credentials; use one without")
	case parsed.Fragment != "":
		return nil, errors.New("the URL has a fragment; use one without")
	}
	return parsed, nil
}
