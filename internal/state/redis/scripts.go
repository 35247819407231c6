package redis

import (
	"embed"

	goredis "github.com/redis/go-redis/v9"
)

//go:embed scripts/*.lua
var scripts embed.FS

// Each script is one step, whatever else goes on. What it takes and returns is said in
// its file.
var (
	applyScript    = script("apply")
	scanScript     = script("scan")
	sweepScript    = script("sweep")
	takeScript     = script("take")
	revokeIDScript = script("revoke_id")
	revokeScript   = script("revoke")
)

func script(name string) *goredis.Script {
	text, err := scripts.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic(err) // it is in the program
	}
	return goredis.NewScript(string(text))
}
