// Package token turns the text of an OAuth 2.1 access token into verified
// claims.
//
// The way of a token is short and has one order. Its size is bounded, its three
// parts are decoded strictly (one text for one token: no line breaks, no loose
// base64), its header and its claims are read by a JSON parser that refuses
// duplicate names. The claim iss then selects one [Issuer], and only that
// issuer's keys may verify the signature. The claims are judged last, so that a
// bad signature always wins over a stale claim and nobody learns anything from
// a token that was not signed. Refusing stale tokens before the signature would
// only save work for those who do not mean to attack: everybody knows which
// issuer and audience to write into a forged token. What bounds the work is that
// no more signatures are verified at once than there are processors.
//
// Keys come from guest modules in the namespace mcp_gateway.key_sources, see
// [KeySource]. A [Cache] remembers what became of a token, so that verifying it
// again costs one hash.
package token
