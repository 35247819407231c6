package catalogue

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/state"
)

// Statistics tell how a token was used. The last ten seconds may be missing.
type Statistics struct {
	TokenID string `json:"token_id"`
	// For how many days, up to and including this one, in UTC.
	PeriodDays int `json:"period_days"`
	// How many requests there were; how many of them had a status below 400, and how
	// many were refused with one of 400 to 499.
	TotalRequests      int64 `json:"total_requests"`
	SuccessfulRequests int64 `json:"successful_requests"`
	BlockedRequests    int64 `json:"blocked_requests"`
	// The part of the requests that were successful, from 0 to 1; 0 without any.
	SuccessRate float64 `json:"success_rate"`
	// How long answers took, other than event streams.
	AverageResponseTimeMS float64 `json:"average_response_time_ms"`
	// The endpoints with most requests, the first one with most of all.
	TopEndpoints []EndpointUse `json:"top_endpoints"`
}

// EndpointUse is how often an endpoint was used.
type EndpointUse struct {
	// The method and the path, such as POST /mcp.
	Endpoint string `json:"endpoint"`
	Requests int64  `json:"requests"`
}

// topEndpoints is how many are told.
const topEndpoints = 10

// Usage tells how a token that the caller may see was used in the last days.
func (s *Service) Usage(ctx context.Context, from Caller, id string, days int) (Statistics, error) {
	c, err := s.caller(ctx, from)
	if err != nil {
		return Statistics{}, err
	}
	return s.usage(ctx, c, id, days)
}

func (s *Service) usage(ctx context.Context, c *caller, id string, days int) (Statistics, error) {
	if days < 1 || days > MaxUsageDays {
		return Statistics{}, invalid("days_invalid", "days can be 1 to 90")
	}
	if _, err := s.visible(ctx, c, id); err != nil {
		return Statistics{}, err
	}
	today := s.now().UTC()
	keys := make([]string, days)
	for i := range keys {
		keys[i] = daily.Key(id, dayOf(today.Add(-time.Duration(i)*24*time.Hour)))
	}
	records, err := s.store.Read(ctx, keys...)
	if err != nil {
		return Statistics{}, err
	}
	stats := Statistics{TokenID: id, PeriodDays: days, TopEndpoints: []EndpointUse{}}
	endpoints := make(map[string]int64)
	var milliseconds float64
	var timed int64
	for _, r := range records {
		if !r.Exists() {
			continue
		}
		entry, err := daily.Decode(r)
		if err != nil {
			return Statistics{}, err
		}
		day := entry.Data
		stats.TotalRequests += day.Total
		stats.SuccessfulRequests += day.Successful
		stats.BlockedRequests += day.Blocked
		milliseconds += day.Milliseconds
		timed += day.Timed
		for endpoint, n := range day.Endpoints {
			endpoints[endpoint] += n
		}
	}
	if stats.TotalRequests > 0 {
		stats.SuccessRate = rounded(float64(stats.SuccessfulRequests) / float64(stats.TotalRequests))
	}
	if timed > 0 {
		stats.AverageResponseTimeMS = rounded(milliseconds / float64(timed))
	}
	for _, endpoint := range slices.Sorted(maps.Keys(endpoints)) {
		stats.TopEndpoints = append(stats.TopEndpoints, EndpointUse{endpoint, endpoints[endpoint]})
	}
	slices.SortStableFunc(stats.TopEndpoints, func(a, b EndpointUse) int { return cmp.Compare(b.Requests, a.Requests) })
	stats.TopEndpoints = stats.TopEndpoints[:min(topEndpoints, len(stats.TopEndpoints))]
	return stats, nil
}

// rounded has four digits after the point.
func rounded(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// One Read has room for all days.
const _ = uint(state.MaxChanges - MaxUsageDays)
