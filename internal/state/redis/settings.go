package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// settings are the module's fields with placeholders expanded and files read. They must
// never be printed.
type settings struct {
	Addresses                          []string
	Username, Password                 string
	Database                           int
	Master                             string
	SentinelUsername, SentinelPassword string
	Cluster                            bool
	Prefix                             string
	Timeout                            time.Duration
	Retries                            int
	MinReplicas                        int
	TLS                                *tlsFiles
}

// tlsFiles are what TLS says, read.
type tlsFiles struct {
	CA, Certificate, Key []byte
	ServerName           string
	config               *tls.Config
}

func (s *settings) defaults() {
	if len(s.Addresses) == 0 {
		s.Addresses = []string{"localhost"}
	}
	port := "6379"
	if s.Master != "" {
		port = "26379"
	}
	for i, address := range s.Addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			s.Addresses[i] = net.JoinHostPort(strings.Trim(address, "[]"), port)
		}
	}
	if s.Prefix == "" {
		s.Prefix = "mcp_gateway"
	}
	if s.Timeout == 0 {
		s.Timeout = 3 * time.Second
	}
	if s.Retries == 0 {
		s.Retries = 3
	}
}

// load reads the files, so that what is wrong with them is found with the rest of the
// configuration.
func (t *TLS) load(repl *caddy.Replacer) (*tlsFiles, error) {
	var paths [3]string
	loaded := &tlsFiles{config: &tls.Config{MinVersion: tls.VersionTLS12}}
	for i, value := range []string{t.CA, t.Certificate, t.Key, t.ServerName} {
		expanded, err := repl.ReplaceOrErr(value, true, true)
		if err != nil {
			return nil, err
		}
		if i == len(paths) {
			loaded.ServerName, loaded.config.ServerName = expanded, expanded
		} else {
			paths[i] = expanded
		}
	}
	for i, content := range []*[]byte{&loaded.CA, &loaded.Certificate, &loaded.Key} {
		if paths[i] == "" {
			continue
		}
		var err error
		if *content, err = os.ReadFile(paths[i]); err != nil {
			return nil, err
		}
	}
	if loaded.CA != nil {
		loaded.config.RootCAs = x509.NewCertPool()
		if !loaded.config.RootCAs.AppendCertsFromPEM(loaded.CA) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", paths[0])
		}
	}
	if (loaded.Certificate == nil) != (loaded.Key == nil) {
		return nil, errors.New("a certificate needs its key, and a key its certificate: name both files")
	}
	if loaded.Certificate != nil {
		pair, err := tls.X509KeyPair(loaded.Certificate, loaded.Key)
		if err != nil {
			// The library's words do not repeat the key.
			return nil, fmt.Errorf("the certificate %s with its key: %w", paths[1], err)
		}
		loaded.config.Certificates = []tls.Certificate{pair}
	}
	return loaded, nil
}

func (s *settings) tls() *tls.Config {
	if s.TLS == nil {
		return nil
	}
	return s.TLS.config.Clone()
}

// client is how everything but the feeds talks to Redis.
func (s *settings) client() goredis.UniversalClient {
	return goredis.NewUniversalClient(&goredis.UniversalOptions{
		Addrs:                    s.Addresses,
		MasterName:               s.Master,
		IsClusterMode:            s.Cluster,
		DB:                       s.Database,
		Username:                 s.Username,
		Password:                 s.Password,
		SentinelUsername:         s.SentinelUsername,
		SentinelPassword:         s.SentinelPassword,
		TLSConfig:                s.tls(),
		DialTimeout:              s.Timeout,
		ReadTimeout:              s.Timeout,
		WriteTimeout:             s.Timeout,
		PoolTimeout:              s.Timeout,
		MaxRetries:               s.Retries,
		DialerRetries:            1,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// feedClient is a client for one connection to one server, which is set up by
// onConnect.
func (s *settings) feedClient(address string, onConnect func(context.Context, *goredis.Conn) error) *goredis.Client {
	return goredis.NewClient(&goredis.Options{
		Addr:                     address,
		DB:                       s.Database,
		Username:                 s.Username,
		Password:                 s.Password,
		TLSConfig:                s.tls(),
		Protocol:                 3, // pushes
		OnConnect:                onConnect,
		DialTimeout:              s.Timeout,
		ReadTimeout:              s.Timeout,
		WriteTimeout:             s.Timeout,
		MaxRetries:               -1,
		DialerRetries:            1,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// master asks the Sentinels where the master is.
func (s *settings) master(ctx context.Context) (string, error) {
	var failures error
	for _, address := range s.Addresses {
		client := goredis.NewSentinelClient(&goredis.Options{
			Addr:            address,
			Username:        s.SentinelUsername,
			Password:        s.SentinelPassword,
			TLSConfig:       s.tls(),
			DialTimeout:     s.Timeout,
			ReadTimeout:     s.Timeout,
			MaxRetries:      -1,
			DialerRetries:   1,
			DisableIdentity: true,
		})
		found, err := client.GetMasterAddrByName(ctx, s.Master).Result()
		_ = client.Close() // nothing was written
		if err == nil && len(found) == 2 {
			return joinHostPort(found[0], found[1]), nil
		}
		failures = errors.Join(failures, fmt.Errorf("the Sentinel %s: %w", address, err))
	}
	return "", failures
}
