package token

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Supposed is the subject, and the id of the token, of a principal of whom they are not
// said.
const Supposed = "hypothetical"

// Suppose returns the claims that [Verifier.Verify] would return of a token with
// these members, at now and for one of the audiences, if its issuer had signed it.
// It is for telling what a principal could do, and lets nobody in.
//
// What every token has, and the members lack, is made up: the issuer if there is
// only one, a subject, an audience, an id, and an hour to live. What is there is
// judged as in Verify, so that the refusal of a token is an [*Error].
func (v *Verifier) Suppose(members map[string]any, now time.Time, audiences []string) (*Claims, error) {
	members = maps.Clone(members)
	if members == nil {
		members = make(map[string]any)
	}
	suppose := func(name string, value any) {
		if _, ok := members[name]; !ok {
			members[name] = value
		}
	}
	if len(v.issuers) == 1 {
		for name := range v.issuers {
			suppose("iss", name)
		}
	} else if _, ok := members["iss"]; !ok {
		return nil, fmt.Errorf("there are several issuers: say in the claim iss which of them a token is from: %s",
			strings.Join(slices.Sorted(maps.Keys(v.issuers)), ", "))
	}
	name, _ := members["iss"].(string)
	iss, ok := v.issuers[name]
	if !ok {
		return nil, refuse(UnknownIssuer)
	}
	if len(iss.Audiences) > 0 {
		suppose("aud", iss.Audiences[0])
	} else if len(audiences) > 0 {
		suppose("aud", audiences[0])
	}
	suppose("sub", Supposed)
	suppose("jti", Supposed)
	suppose("exp", float64(now.Add(time.Hour).Unix()))
	claims, refusal := v.judge(iss, members, audiences, now)
	if refusal != nil {
		return nil, refusal
	}
	return claims, nil // of no key, so that nothing takes them for verified
}
