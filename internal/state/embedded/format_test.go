package embedded

import (
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
	"github.com/caddymcp/caddy-mcp-gateway/internal/state/statetest"
)

var makeFormat = flag.Bool("make-format", false, "write a file of the present format into testdata")

const format1 = "testdata/format1.db.gz"

// TestFormat1 reads a file as the first version of this program wrote it. That file
// must not change; a new format gets one of its own.
func TestFormat1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	expires := time.UnixMilli(32_503_680_000_000) // in the year 3000
	revocations := []state.Revocation{
		{Kind: state.RevokeID, Issuer: "https://login.example.com", Value: "jti-1", Expires: expires},
		{Kind: state.RevokeSubject, Value: "alice", Before: time.UnixMilli(1_700_000_000_000)},
	}
	window := state.Window{Period: 24 * time.Hour, Step: time.Hour, Limit: 3}
	counting := func() time.Time { return expires }
	if *makeFormat {
		s := newStore(path, false)
		_, err := s.Apply(t.Context(), state.Create("user/alice", []byte("kept")), state.Create("user/bob", nil).Until(expires))
		err = errors.Join(err, s.Revoke(t.Context(), revocations...))
		s.setNow(counting)
		_, err2 := s.Take(t.Context(), "use", 3, window)
		if err := errors.Join(err, err2, s.Close(), pack(path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unpack(path); err != nil {
		t.Fatal(err)
	}
	s := opened(t, path)
	r, err := state.Get(t.Context(), s, "user/alice")
	if err != nil || string(r.Value) != "kept" || !r.Expires.IsZero() {
		t.Errorf("read %+v, %v", r, err)
	}
	if r, err = state.Get(t.Context(), s, "user/bob"); err != nil || !r.Expires.Equal(expires) {
		t.Errorf("read %+v, %v", r, err)
	}
	told := statetest.Collect(t, s.Follow)
	told.Current(t)
	told.Wait(t, "", func(all state.Update) bool {
		for _, want := range revocations {
			if !slices.ContainsFunc(all.Revocations, func(got state.Revocation) bool {
				return got.Same(want) && got.Before.Equal(want.Before) && got.Expires.Equal(want.Expires)
			}) {
				t.Errorf("told of %+v, not of %+v", all.Revocations, want)
			}
		}
		return true
	})
	s.setNow(counting)
	if wait, err := s.Take(t.Context(), "use", 1, window); wait == 0 || err != nil {
		t.Errorf("what was counted is forgotten: wait %s, %v", wait, err)
	}
}

func pack(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := os.Create(format1)
	if err != nil {
		return err
	}
	w := gzip.NewWriter(f)
	_, err = w.Write(content)
	return errors.Join(err, w.Close(), f.Close())
}

func unpack(path string) error {
	f, err := os.Open(format1)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	content, err := io.ReadAll(r)
	return errors.Join(err, os.WriteFile(path, content, 0o600))
}
