package scope

import (
	"strconv"
	"testing"
)

func BenchmarkCheck(b *testing.B) {
	for name, text := range map[string]string{
		"unrestricted": `{}`,
		"restricted": `{"teams":["a","b"],"scopes":{"server_id":"warehouse","permissions":["servers.use"],"ip_restrictions":["10.0.0.0/8","192.0.2.0/24"],
			"time_restrictions":{"start_time":"09:00","end_time":"17:00","timezone":"Europe/Berlin"}}}`,
		"counted": `{"jti":"1","scopes":{"usage_limits":{"requests_per_hour":4000000000}}}`,
	} {
		b.Run(name, func(b *testing.B) {
			s, q := parse(b, text, Config{}), request()
			q.Usage = newUsage(b, 0)
			b.ReportAllocs()
			for b.Loop() {
				if refusal := s.Check(q); refusal != nil {
					b.Fatal(refusal.Cause)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	claims := lookup(b, `{"iss":"https://a","jti":"1","teams":["a","b"],"scopes":{"server_id":"warehouse","permissions":["tools.read","tools.execute"],
		"ip_restrictions":["10.0.0.0/8"],"time_restrictions":{"start_time":"09:00","end_time":"17:00","timezone":"Europe/Berlin"},
		"usage_limits":{"requests_per_hour":100}}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(claims, nil, Config{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUsageNew counts each time for another token, in a table that is full.
func BenchmarkUsageNew(b *testing.B) {
	u, limits := newUsage(b, 1000), Limits{PerHour: 1}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		u.Take(UsageKey("https://a", strconv.Itoa(i)), limits, noon)
	}
}
