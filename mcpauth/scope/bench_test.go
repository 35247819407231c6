package scope

import "testing"

func BenchmarkCheck(b *testing.B) {
	for name, text := range map[string]string{
		"unrestricted": `{}`,
		"restricted": `{"teams":["a","b"],"scopes":{"server_id":"warehouse","permissions":["servers.use"],"ip_restrictions":["10.0.0.0/8","192.0.2.0/24"],
			"time_restrictions":{"start_time":"09:00","end_time":"17:00","timezone":"Europe/Berlin"}}}`,
	} {
		b.Run(name, func(b *testing.B) {
			s, q := parse(b, text, Config{}), request()
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
