package scope

import (
	"net/netip"
	"slices"
	"strings"
)

// readAddresses reads ip_restrictions: addresses and CIDR blocks, of which any may
// match. An empty list restricts nothing, because ContextForge writes one into every
// token that is not bound to addresses. An entry that cannot be read makes the token
// invalid; ContextForge skipped it.
func readAddresses(value any) ([]netip.Prefix, *Error) {
	const claim = "scopes.ip_restrictions"
	entries, err := texts(claim, value)
	if err != nil {
		return nil, err
	}
	blocks := make([]netip.Prefix, 0, len(entries))
	for _, entry := range entries {
		block, ok := ParseBlock(strings.Trim(entry, " "))
		if !ok {
			return nil, invalid(claim, "has an element that is neither an address nor a CIDR block")
		}
		blocks = append(blocks, block)
	}
	return slices.Clip(blocks), nil
}

// ParseBlock reads an address or a CIDR block, whose host bits may be set. An
// IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) is the IPv4 address.
func ParseBlock(entry string) (netip.Prefix, bool) {
	if !strings.Contains(entry, "/") {
		addr, err := netip.ParseAddr(entry)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, false
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	block, err := netip.ParsePrefix(entry)
	if err != nil {
		return netip.Prefix{}, false
	}
	const mapped = 96
	if block.Addr().Is4In6() && block.Bits() >= mapped {
		block = netip.PrefixFrom(block.Addr().Unmap(), block.Bits()-mapped)
	}
	return block.Masked(), true
}

// AllowsAddress reports whether the token may be used from an address. One that is
// not known, which is the zero Addr, is allowed only to a token that is not bound to
// addresses.
func (s *Scope) AllowsAddress(addr netip.Addr) bool {
	if s == nil || !s.alsoAddress(addr) {
		return false
	}
	if len(s.addresses) == 0 {
		return true
	}
	// A zone is an interface of this machine, about which a token cannot know.
	addr = addr.Unmap().WithZone("")
	for _, block := range s.addresses {
		if block.Contains(addr) {
			return true
		}
	}
	return false
}
