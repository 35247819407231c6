package keys

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/token/metadata"
)

func init() {
	caddy.RegisterModule(new(PEM))
}

// PEM reads the issuer's public keys from files when the configuration is
// loaded. A file may hold any number of public keys (PKIX or PKCS #1) and
// certificates. Of a certificate only the public key counts, neither its dates
// nor who issued it: the key is trusted because it was configured. The keys have
// no kid, so they verify tokens of any kid; keep them to a few.
type PEM struct {
	// The paths of the files, up to 1 MiB each. Placeholders are expanded when
	// the configuration is loaded. Required.
	Files []string `json:"files,omitempty"`

	keys []token.Key
}

// CaddyModule returns the Caddy module information.
func (*PEM) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "mcp_gateway.key_sources.pem",
		New: func() caddy.Module { return new(PEM) },
	}
}

// Provision reads the files.
func (p *PEM) Provision(caddy.Context) error {
	if len(p.Files) == 0 {
		return errors.New("files is empty: name at least one file with a public key")
	}
	repl := caddy.NewReplacer()
	for _, file := range p.Files {
		path, err := repl.ReplaceOrErr(file, true, true)
		if err != nil {
			return fmt.Errorf("file: %w", err)
		}
		keys, err := readPEM(path)
		if err != nil {
			return fmt.Errorf("key file %s: %w", path, err)
		}
		p.keys = append(p.keys, keys...)
	}
	return nil
}

func readPEM(path string) ([]token.Key, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err) // the path is already in front of it
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, metadata.MaxBody+1))
	if err != nil {
		return nil, err
	}
	if len(text) > metadata.MaxBody {
		return nil, fmt.Errorf("larger than %d bytes", metadata.MaxBody)
	}
	var keys []token.Key
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		public, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		key, err := token.NewPublicKey("", public)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM block found; it must hold a public key or a certificate")
	}
	return keys, nil
}

func parseBlock(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	}
	if strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errors.New("holds a private key, which must stay with the issuer; use the public key")
	}
	return nil, fmt.Errorf("holds a PEM block of type %q; use a public key or a certificate", block.Type)
}

// Algorithms returns what the keys in the files allow.
func (p *PEM) Algorithms() []string { return allAlgorithms(p.keys) }

// Keys returns all keys, whatever the kid.
func (p *PEM) Keys(context.Context, string, time.Time) ([]token.Key, uint64, error) {
	return p.keys, p.Epoch(), nil
}

// Epoch never changes: other keys come with another configuration.
func (p *PEM) Epoch() uint64 { return 0 }

// Ready returns nil: the keys were read when the configuration was loaded.
func (p *PEM) Ready(time.Time) error { return nil }

// UnmarshalCaddyfile sets up the source from Caddyfile tokens:
//
//	pem <file...>
func (p *PEM) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume source name
	if p.Files = d.RemainingArgs(); len(p.Files) == 0 {
		return d.ArgErr()
	}
	return noBlock(d)
}

// allAlgorithms returns the names of what any of the keys may verify.
func allAlgorithms(keys []token.Key) []string {
	var all []string
	for _, key := range keys {
		for _, name := range key.Algorithms() {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}

func noBlock(d *caddyfile.Dispenser) error {
	if d.NextBlock(d.Nesting()) {
		return d.Errf("unrecognized key source option '%s'", d.Val())
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*PEM)(nil)
	_ caddyfile.Unmarshaler = (*PEM)(nil)
	_ token.KeySource       = (*PEM)(nil)
)
