package state

import "time"

// EndCause is why a session has ended, a word for metrics.
type EndCause string

// The causes.
const (
	// EndClient: its owner has ended it.
	EndClient EndCause = "client"
	// EndServer: the server does not know it any more, or is gone.
	EndServer EndCause = "server"
	// EndRevoked: the token was revoked with which it was begun.
	EndRevoked EndCause = "token_revoked"
	// EndIdle and EndLifetime: its time was up.
	EndIdle     EndCause = "idle"
	EndLifetime EndCause = "lifetime"
	// EndLimit: there were too many, or too many of its owner's.
	EndLimit EndCause = "limit"
	// EndFull: too many of its requests were never answered.
	EndFull EndCause = "full"
)

// Because says why the session is about to end. The first cause counts.
func (s *Session) Because(cause EndCause) { s.ended.CompareAndSwap(nil, &cause) }

// Ended is why it has ended; the server's doing unless somebody said otherwise.
func (s *Session) Ended() EndCause {
	if cause := s.ended.Load(); cause != nil {
		return *cause
	}
	return EndServer
}

// overBecause is why the time of a session is up.
func (t *Sessions) overBecause(s *Session, now time.Time) EndCause {
	if now.Sub(s.Created) >= t.limits.Life {
		return EndLifetime
	}
	return EndIdle
}
