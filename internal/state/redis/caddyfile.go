package redis

import (
	"errors"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile sets up the store from Caddyfile tokens:
//
//	redis [<addresses...>] {
//		username     <name>
//		password     <password>
//		database     <number>
//		tls [{
//			ca          <file>
//			cert        <file>
//			key         <file>
//			server_name <name>
//		}]
//		sentinel <master> [{
//			username <name>
//			password <password>
//		}]
//		cluster
//		prefix       <text>
//		timeout      <duration>
//		retries      <number> | off
//		min_replicas <number>
//	}
func (r *Redis) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	r.Addresses = d.RemainingArgs()
	return block(d, "redis", "cluster, database, min_replicas, password, prefix, retries, sentinel, timeout, tls, username",
		func(option string) (err error) {
			switch option {
			case "username":
				r.Username, err = one(d)
			case "password":
				r.Password, err = one(d)
			case "database":
				r.Database, err = number(d)
			case "min_replicas":
				r.MinReplicas, err = number(d)
			case "prefix":
				r.Prefix, err = one(d)
			case "timeout":
				r.Timeout, err = duration(d)
			case "retries":
				r.Retries, err = retries(d)
			case "cluster":
				r.Cluster, err = true, none(d)
			case "tls":
				r.TLS = new(TLS)
				err = r.TLS.unmarshal(d)
			case "sentinel":
				r.Sentinel = new(Sentinel)
				err = r.Sentinel.unmarshal(d)
			default:
				return errUnknown
			}
			return err
		})
}

func (t *TLS) unmarshal(d *caddyfile.Dispenser) error {
	if err := none(d); err != nil {
		return err
	}
	return block(d, "tls", "ca, cert, key, server_name", func(option string) (err error) {
		switch option {
		case "ca":
			t.CA, err = one(d)
		case "cert":
			t.Certificate, err = one(d)
		case "key":
			t.Key, err = one(d)
		case "server_name":
			t.ServerName, err = one(d)
		default:
			return errUnknown
		}
		return err
	})
}

func (s *Sentinel) unmarshal(d *caddyfile.Dispenser) (err error) {
	if s.Master, err = one(d); err != nil {
		return err
	}
	return block(d, "sentinel", "password, username", func(option string) (err error) {
		switch option {
		case "username":
			s.Username, err = one(d)
		case "password":
			s.Password, err = one(d)
		default:
			return errUnknown
		}
		return err
	})
}

var errUnknown = errors.New("unknown option")

// block reads a block whose options stand once each.
func block(d *caddyfile.Dispenser, name, has string, parse func(option string) error) error {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("%s is given twice; write it once", option)
		}
		seen[option] = true
		if err := parse(option); errors.Is(err, errUnknown) {
			return d.Errf("unrecognized %s option '%s'; it has: %s", name, option, has)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func none(d *caddyfile.Dispenser) error {
	name := d.Val()
	if d.NextArg() {
		return d.Errf("%s takes no argument, and '%s' is one", name, d.Val())
	}
	return nil
}

// one does not repeat the arguments: there may be a password among them.
func one(d *caddyfile.Dispenser) (string, error) {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 {
		return "", d.Errf("%s takes exactly one argument; put one with spaces into quotes", name)
	}
	return args[0], nil
}

func number(d *caddyfile.Dispenser) (int, error) {
	name := d.Val()
	text, err := one(d)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || strconv.Itoa(n) != text {
		return 0, d.Errf("%s must be a number such as 1, not '%s'", name, text)
	}
	return n, nil
}

func retries(d *caddyfile.Dispenser) (int, error) {
	text, err := one(d)
	if err != nil {
		return 0, err
	}
	if text == "off" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 || strconv.Itoa(n) != text {
		return 0, d.Errf("retries must be a positive number such as 3, or off, not '%s'", text)
	}
	return n, nil
}

func duration(d *caddyfile.Dispenser) (caddy.Duration, error) {
	name := d.Val()
	text, err := one(d)
	if err != nil {
		return 0, err
	}
	parsed, err := caddy.ParseDuration(text)
	if err != nil || parsed <= 0 {
		return 0, d.Errf("%s must be a time such as 3s, not '%s'", name, text)
	}
	return caddy.Duration(parsed), nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Redis)(nil)
