// Package browser opens the gateway's pages in a real browser, Chromium, which the test
// command installs.
package browser
