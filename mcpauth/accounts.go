package mcpauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/steady"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/catalogue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/issue"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/login"
)

// Accounts are the people that the gateway itself lets log in.
type Accounts struct {
	account.Config
	account.Declared

	// How long interactive sessions last.
	Sessions login.Config `json:"sessions,omitzero"`
}

// provisionAccounts makes what the configuration asks for of: a store, an issuer,
// accounts. It changes nothing.
func (a *App) provisionAccounts(ctx caddy.Context) error {
	if a.Accounts == nil && a.APITokens != (catalogue.Config{}) {
		return errors.New("api_tokens are made by those who log in, and there are no accounts; declare some, or take it away")
	}
	if a.Tokens == nil && a.Accounts == nil {
		return nil
	}
	a.running, a.stop = context.WithCancel(ctx)
	if a.Accounts != nil && a.Tokens == nil {
		return errors.New("those who log in need tokens: name the issuer of them, such as: tokens https://mcp.example.com")
	}
	if a.Tokens == nil {
		return nil
	}
	config, err := expandIssuer(*a.Tokens)
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	if a.issuer, err = issue.New(a.store.store, config, a.Environment, a.logger.Named("tokens")); err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	a.Check("signing_keys", a.issuer.Ready)
	a.Check("accounts", a.store.live.Ready)
	if a.Accounts == nil {
		return nil
	}
	a.Check("declared_accounts", func(time.Time) error {
		if a.shared.declared.Load() {
			return nil
		}
		return errors.New("the accounts of the configuration are not made yet")
	})
	logger := a.logger.Named("accounts")
	accounts, err := account.New(a.store.store, a.Accounts.Config, logger)
	if err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	if a.declared, err = a.expandDeclared(a.Accounts.Declared); err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	if err := accounts.Check(a.declared); err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	a.desk, err = login.New(a.store.store, a.store.revocations, accounts, a.issuer, a.Accounts.Sessions, a.Environment, logger)
	if err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	a.tokens, err = catalogue.New(a.store.store, a.store.revocations, accounts, a.issuer, a.holding, a.APITokens, a.logger.Named("tokens"))
	if err != nil {
		return fmt.Errorf("api_tokens: %w", err)
	}
	return nil
}

// expandIssuer expands the placeholders of an issuer's configuration.
func expandIssuer(config issue.Config) (issue.Config, error) {
	repl := caddy.NewReplacer()
	var err error
	if config.Name, err = repl.ReplaceOrErr(config.Name, true, true); err != nil {
		return config, err
	}
	for _, list := range []*[]string{&config.Audiences, &config.KeyFiles} {
		*list = slices.Clone(*list)
		for i, value := range *list {
			if (*list)[i], err = repl.ReplaceOrErr(value, true, true); err != nil {
				return config, err
			}
		}
	}
	return config, nil
}

// expandDeclared expands the placeholders of declared accounts. The configuration that
// the admin API shows keeps them.
func (a *App) expandDeclared(d account.Declared) (account.Declared, error) {
	repl := caddy.NewReplacer()
	d.Users, d.Teams = slices.Clone(d.Users), slices.Clone(d.Teams)
	expand := func(text *string) (err error) {
		*text, err = repl.ReplaceOrErr(*text, true, true)
		return err
	}
	for i := range d.Users {
		u := &d.Users[i]
		if err := expand(&u.Email); err != nil {
			return d, err
		}
		for _, secret := range []*string{&u.Password, &u.PasswordHash} {
			written := *secret
			if err := expand(secret); err != nil {
				return d, fmt.Errorf("the password of %s names a placeholder that is unknown or empty; escape braces that belong to it", u.Email)
			}
			if written != "" && *secret == written && secret == &u.Password && !strings.Contains(written, "{") {
				a.logger.Warn("a password is written into the configuration, where the admin API shows it; use a placeholder such as {env.ADMIN_PASSWORD}",
					zap.String("user", u.Email))
			}
		}
	}
	for i := range d.Teams {
		t := &d.Teams[i]
		t.Owners, t.Members = slices.Clone(t.Owners), slices.Clone(t.Members)
		for _, list := range [][]string{t.Owners, t.Members} {
			for k := range list {
				if err := expand(&list[k]); err != nil {
					return d, err
				}
			}
		}
	}
	return d, nil
}

// startAccounts begins what goes on in the background, once the whole configuration has
// started.
func (a *App) startAccounts() {
	if a.issuer != nil {
		a.background.Go(func() { a.issuer.Run(a.running) })
	}
	if a.desk != nil {
		a.background.Go(func() { a.declare(a.running) })
	}
}

// declareEvery is how often it is tried to make what is declared, while the store is
// not available.
const declareEvery = 5 * time.Second

// declare makes the accounts that the configuration has. A store that is elsewhere may
// come later than we do.
func (a *App) declare(ctx context.Context) {
	by := account.Actor{Name: "configuration"}
	ended := func(u account.User) error {
		// Somebody else may have had the account before.
		return errors.Join(a.desk.EndAll(ctx, by, u), a.desk.EndTokens(ctx, by, u, steady.Now()))
	}
	for {
		err := a.desk.Accounts().Declare(ctx, a.declared, ended)
		var refused *account.Error
		if err == nil || ctx.Err() != nil {
			a.shared.declared.Store(true)
			return
		}
		a.logger.Error("the accounts of the configuration were not all made", zap.Error(err))
		if !errors.Is(err, state.ErrUnavailable) && (!errors.As(err, &refused) || refused.Kind != account.Busy) {
			a.shared.declared.Store(true) // the others are there
			return
		}
		again := time.NewTimer(declareEvery)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
	}
}

// endAccounts ends what startAccounts has begun.
func (a *App) endAccounts() {
	if a.stop != nil {
		a.stop()
	}
	a.background.Wait()
}

// Desk is where people log in, and where accounts are changed. It is nil unless the
// configuration has accounts.
func (a *App) Desk() *login.Desk { return a.desk }

// Catalogue is where API tokens are made and looked after. It is nil unless the
// configuration has accounts.
func (a *App) Catalogue() *catalogue.Service { return a.tokens }

// Issuer makes the gateway's own tokens. It is nil unless the configuration names it.
func (a *App) Issuer() *issue.Issuer { return a.issuer }

// Issues reports whether the gateway makes tokens.
func (a *App) Issues() bool { return a.issuer != nil }

// JWKS returns the public keys of the gateway's tokens, as a JWK Set (RFC 7517 section
// 5).
func (a *App) JWKS(ctx context.Context) ([]byte, error) { return a.issuer.JWKS(ctx) }
