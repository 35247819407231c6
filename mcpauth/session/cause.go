package session

// Cause is why a session has ended, a word for metrics.
type Cause string

// The causes.
const (
	// EndClient: its owner has ended it.
	EndClient Cause = "client"
	// EndServer: the server does not know it any more, or is gone.
	EndServer Cause = "server"
	// EndAdministrator: it was ended by way of the list of sessions.
	EndAdministrator Cause = "administrator"
	// EndRevoked: the token was revoked with which it was begun.
	EndRevoked Cause = "token_revoked"
	// EndIdle and EndLifetime: its time was up.
	EndIdle     Cause = "idle"
	EndLifetime Cause = "lifetime"
	// EndLimit: there were too many, or too many of its owner's.
	EndLimit Cause = "limit"
	// EndFull: too many of its requests were never answered.
	EndFull Cause = "full"
)
