// Package canary runs the gateway as its users do, gives it secrets and tokens that are
// easy to recognise, wherever there can be one, and then looks for them in everything
// that it writes: logs at the level debug, the access log, metrics, errors, the
// configuration that the admin API shows and the one that Caddy saves, profiles, the
// store, and the stacks of all goroutines.
package canary
