package ui

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// Every request passes admit, also one for an asset or for the API's description. The program
// says who has access: WithAuthorize, WithToken or WithLocalAccess.

// minTokenLength is in characters.
const minTokenLength = 16

// NewToken returns a token for WithToken: 64 hexadecimal digits, 256 random bits.
func NewToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// WithToken gives access to requests of this machine that have the token. They may do everything.
// A browser opens the page's URL with "?token=TOKEN" once and then has a cookie; other programs
// send "Authorization: Bearer TOKEN".
//
// It panics if the token is shorter than 16 characters. NewToken makes one.
func WithToken(token string) Option {
	if len(token) < minTokenLength {
		panic(fmt.Sprintf("ui: WithToken: a token of %d characters: want %d or more; NewToken makes one", len(token), minTokenLength))
	}
	return func(c *config) { c.token = token }
}

// WithLocalAccess gives every user and program of this machine access to everything. A request
// is of this machine if it comes from a loopback address, goes to one or to "localhost", and
// has no header that proxies add. Do not use it where a proxy on this machine serves others:
// nginx, for one, adds no such header by default, so its requests look local.
func WithLocalAccess() Option { return func(c *config) { c.localAccess = true } }

var (
	errNoAccess = errors.New("the program does not say who may come in: ui.WithAuthorize, ui.WithToken or ui.WithLocalAccess")
	errRemote   = errors.New("requests from other machines, and through proxies, are refused: ui.WithAuthorize says who may do what")
	errNoToken  = errors.New("open the page with the URL that the program printed, which has a token, " +
		"or send it as \"Authorization: Bearer TOKEN\"")
)

// admit reports whether the request has access. If not, it has answered the request.
func (h *handler) admit(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case h.authorizer != nil: // authorize calls it for each action
		return true
	case h.token == "" && !h.localAccess:
		h.writeError(w, r, http.StatusForbidden, errNoAccess)
	case !isLocal(r):
		h.writeError(w, r, http.StatusForbidden, errRemote)
	case h.token == "":
		return true
	case r.Method == http.MethodGet && h.isToken(r.URL.Query().Get("token")):
		h.setTokenCookie(w, r)
	case h.hasToken(r):
		return true
	default:
		h.writeError(w, r, http.StatusForbidden, errNoToken)
	}
	return false
}

// hasToken reports whether the request carries the token.
func (h *handler) hasToken(r *http.Request) bool {
	scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if ok && strings.EqualFold(scheme, "Bearer") && h.isToken(given) {
		return true
	}
	for _, c := range r.CookiesNamed(h.cookieName()) {
		if h.isToken(c.Value) {
			return true
		}
	}
	return false
}

// isToken compares in constant time.
func (h *handler) isToken(given string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(h.token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// cookieName returns a name that differs between programs: all ports of a host share its cookies.
func (h *handler) cookieName() string {
	sum := sha256.Sum256([]byte("stint cookie " + h.token))
	return "stint-" + hex.EncodeToString(sum[:4])
}

// setTokenCookie sets the cookie and redirects to the same page without the token in its URL.
func (h *handler) setTokenCookie(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{
		Name: h.cookieName(), Value: h.token, Path: h.base + "/",
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
	q := r.URL.Query()
	q.Del("token")
	to, ok := h.localPath(strings.TrimSuffix(r.URL.EscapedPath()+"?"+q.Encode(), "?"))
	if !ok {
		to = h.base + "/"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// localPath returns text, a path with a query, as a browser resolves it. It returns false unless
// that is within this handler: a redirect to text must not lead to another host.
func (h *handler) localPath(text string) (to string, ok bool) {
	for _, c := range text {
		if c <= ' ' || c == 0x7f || c == '\\' { // browsers ignore some of these, and read \ as /
			return "", false
		}
	}
	u, err := url.Parse(text)
	if err != nil || u.IsAbs() || u.Host != "" || u.Opaque != "" || u.User != nil {
		return "", false
	}
	if !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(text, "//") {
		return "", false
	}
	for _, c := range u.Path {
		if c < ' ' || c == 0x7f || c == '\\' {
			return "", false
		}
	}
	escaped := dotEscape.ReplaceAllString(u.EscapedPath(), ".") // browsers read %2e as a dot
	clean := path.Clean(escaped)
	if strings.HasSuffix(escaped, "/") && clean != "/" {
		clean += "/"
	}
	base := (&url.URL{Path: h.base}).EscapedPath()
	if clean != base && !strings.HasPrefix(clean, base+"/") {
		return "", false
	}
	if u.RawQuery != "" {
		clean += "?" + u.RawQuery
	}
	return clean, true
}

var dotEscape = regexp.MustCompile(`(?i)%2e`)

// proxyHeaders are headers that proxies add, besides all that begin with "X-Forwarded".
var proxyHeaders = []string{
	"Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Original-Forwarded-For", "X-Original-Host",
	"X-Original-Url", "X-Rewrite-Url", "X-Proxyuser-Ip", "X-Envoy-External-Address", "X-Envoy-Peer-Metadata", "True-Client-Ip",
	"Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Cf-Ray", "Fastly-Client-Ip", "Client-Ip", "Fly-Client-Ip", "X-Appengine-User-Ip",
	"X-Azure-Clientip", "X-Azure-Socketip", "X-Arr-Log-Id", "X-Amzn-Trace-Id", "Proxy-Connection",
}

// isLocal reports whether a request comes from this machine and names it as the host: neither
// through a proxy that adds a header, nor from a site whose name resolves to this machine. A
// proxy that adds no header cannot be recognised.
func isLocal(r *http.Request) bool {
	for name := range r.Header { // a header without a value counts too
		if strings.HasPrefix(name, "X-Forwarded") {
			return false
		}
	}
	for _, name := range proxyHeaders {
		if _, ok := r.Header[name]; ok {
			return false
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	to, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && to.IsLoopback()
}
