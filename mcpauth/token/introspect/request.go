package introspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// maxAnswer is the size in bytes up to which an answer is read. The text of a token may
// have half of that.
const maxAnswer = 32 << 10

// brokenError is about an answer that says nothing, although the issuer is there.
type brokenError struct{ cause error }

func (e *brokenError) Error() string { return e.cause.Error() }

func broken(format string, args ...any) error { return &brokenError{fmt.Errorf(format, args...)} }

// newClient makes a client that follows no redirect: whoever can redirect it would be
// given tokens.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:    5 * time.Second,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    maxRenewals,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// question asks about a token (RFC 7662 section 2.1).
func (c *Client) question(ctx context.Context, raw string, now time.Time) (map[string]any, error) {
	address, err := c.find(ctx, now)
	if err != nil {
		return nil, err
	}
	form := url.Values{"token": {raw}, "token_type_hint": {"access_token"}}
	if c.post {
		form.Set("client_id", c.id)
		form.Set("client_secret", c.secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("the introspection endpoint has an invalid URL")
	}
	if !c.post {
		// Both are form-encoded before they are put together (RFC 6749 section 2.3.1).
		req.SetBasicAuth(url.QueryEscape(c.id), url.QueryEscape(c.secret))
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	where := req.URL.Host + req.URL.Path
	resp, err := c.http.Do(req)
	if err != nil {
		// The error of the client repeats the whole URL, query included.
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	defer resp.Body.Close()
	switch status := resp.StatusCode; status {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fmt.Errorf("%s: status %d: the issuer does not let the gateway ask; check client_id, client_secret and client_auth", where, status)
	case http.StatusBadRequest:
		return nil, broken("%s: status %d", where, status)
	default:
		return nil, fmt.Errorf("%s: status %d", where, status)
	}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, broken("%s: the answer is not application/json", where)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	members, err := read(body, raw)
	if err != nil && !errors.Is(err, ErrInactive) {
		return nil, broken("%s: %w", where, err)
	}
	return members, err
}

var (
	errTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	errNoJSON   = errors.New("the answer is not a JSON object with each member once")
	errActive   = errors.New("the answer does not say whether the token is active")
)

// read reads an answer (RFC 7662 section 2.2). No error repeats any of it. A member that
// repeats the token, as some issuers have it for want of a jti, is left out: what a token
// is known by gets into logs.
func read(body []byte, raw string) (map[string]any, error) {
	if len(body) > maxAnswer {
		return nil, errTooLarge
	}
	var members map[string]any
	if json.Unmarshal(body, &members) != nil || members == nil {
		return nil, errNoJSON
	}
	active, ok := members["active"].(bool)
	if !ok {
		return nil, errActive
	}
	if !active {
		return nil, ErrInactive
	}
	for name, value := range members {
		if value == any(raw) {
			delete(members, name)
		}
	}
	return members, nil
}
