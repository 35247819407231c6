package wellknown

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// ready is a readiness with fixed answers.
type ready map[string]error

func (r ready) Ready() map[string]error { return r }

func TestHealthAndReady(t *testing.T) {
	down := errors.New("dial tcp 10.0.0.9:6379: connection refused")
	for _, tc := range []struct {
		name, path string
		checks     ready
		status     int
		body       string
	}{
		{"alive", "/health", nil, 200, `{"status":"ok"}`},
		{"alive although not ready", "/health", ready{"store": down}, 200, `{"status":"ok"}`},
		{"no checks", "/ready", nil, 200, `{"status":"ready"}`},
		{"all well", "/ready", ready{"store": nil, "keys": nil}, 200, `{"status":"ready","checks":{"keys":"ok","store":"ok"}}`},
		{"one fails", "/ready", ready{"store": down, "keys": nil}, 503, `{"status":"not ready","checks":{"keys":"ok","store":"failing"}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHandler(t, &Handler{PublicURL: "https://h"}, tc.checks)
			core, logs := observer.New(zap.DebugLevel)
			h.logger = zap.New(core)
			resp, body := get(t, h, tc.path)
			if resp.StatusCode != tc.status || body != tc.body || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Type") != applicationJSON {
				t.Errorf("got %d %v %s", resp.StatusCode, resp.Header, body)
			}
			if logged := logs.FilterField(zap.String("check", "store")).Len() == 1; logged != (tc.status == 503) {
				t.Errorf("reason logged: %v", logged)
			}
			head := ask(t, h, httptest.NewRequest(http.MethodHead, tc.path, nil))
			none, err := io.ReadAll(head.Body)
			if err != nil || len(none) > 0 || head.StatusCode != tc.status || head.ContentLength != int64(len(tc.body)) {
				t.Errorf("HEAD: got %d %v %q, error %v", head.StatusCode, head.Header, none, err)
			}
			post := ask(t, h, httptest.NewRequest(http.MethodPost, tc.path, strings.NewReader("{}")))
			if post.StatusCode != http.StatusMethodNotAllowed || post.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("POST: got %d %v", post.StatusCode, post.Header)
			}
		})
	}
}

// TestReadyIsAskedEachTime: an answer is as old as the request, no older.
func TestReadyIsAskedEachTime(t *testing.T) {
	checks := ready{"store": nil}
	h := newHandler(t, &Handler{PublicURL: "https://h"}, checks)
	for i, err := range []error{nil, errors.New("down"), nil} {
		checks["store"] = err
		resp, _ := get(t, h, "/ready")
		if (resp.StatusCode == http.StatusOK) != (err == nil) {
			t.Errorf("request %d: got %d", i, resp.StatusCode)
		}
	}
}
