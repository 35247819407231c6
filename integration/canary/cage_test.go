package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
)

// cage has the secrets, and what each looks like when it gets out.
type cage struct {
	mu    sync.Mutex
	birds []bird
	// looked is how many bytes were looked through.
	looked int
}

type bird struct {
	name  string
	forms [][]byte
}

// add has a secret looked for from now on, in every form that it could be written in.
func (c *cage) add(name, secret string) string {
	if len(secret) < 12 {
		panic(name + " is too short to be recognised")
	}
	quoted, err := json.Marshal(secret)
	if err != nil {
		panic(err)
	}
	raw := []byte(secret)
	forms := [][]byte{
		raw,
		bytes.Trim(quoted, `"`),
		[]byte(fmt.Sprintf("%q", secret)[1 : len(fmt.Sprintf("%q", secret))-1]),
		[]byte(url.QueryEscape(secret)),
		[]byte(url.PathEscape(secret)),
		[]byte(hex.EncodeToString(raw)),
	}
	// In base64, what comes before shifts a text by up to two characters. The ends
	// depend on what is beside it, and are left out.
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), raw...))
		inner := text[4 : len(text)-4]
		forms = append(forms, []byte(inner), []byte(strings.NewReplacer("+", "-", "/", "_").Replace(inner)))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.birds = append(c.birds, bird{name, forms})
	return secret
}

// addToken has a JWT looked for: by its signature, since the rest may be known.
func (c *cage) addToken(name, token string) string {
	c.add("the signature of "+name, token[strings.LastIndexByte(token, '.')+1:])
	return token
}

// look fails the test for each secret that is in a text.
func (c *cage) look(t *testing.T, where string, text []byte) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked += len(text)
	for _, b := range c.birds {
		for _, form := range b.forms {
			if at := bytes.Index(text, form); at >= 0 {
				t.Errorf("%s has %s: ...%q...", where, b.name, text[max(0, at-200):min(len(text), at+len(form)+80)])
				break
			}
		}
	}
}

func (c *cage) lookFile(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	if len(text) == 0 {
		t.Errorf("%s is empty: nothing was looked at", path)
	}
	c.look(t, path, text)
}

// The canary itself must be able to sing.
func TestCage(t *testing.T) {
	secret := "Tulip-42/walks \"sideways\"+&"
	for _, text := range []string{
		"x" + secret + "y",
		fmt.Sprintf("x%q", secret),
		"?a=" + url.QueryEscape(secret),
		hex.EncodeToString([]byte("ab" + secret)),
		base64.StdEncoding.EncodeToString([]byte("admin:" + secret)),
		base64.RawURLEncoding.EncodeToString([]byte("admins:" + secret + "and more")),
		base64.StdEncoding.EncodeToString([]byte("bob@x:" + secret + "!")),
	} {
		var c cage
		c.add("it", secret)
		inner := new(testing.T)
		c.look(inner, "here", []byte(text))
		if !inner.Failed() {
			t.Errorf("not found in %q", text)
		}
	}
}
