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

// The door is what every request passes, those for assets and for the API's description
// too. A program says who comes in: WithAuthorize, WithToken or WithLocalAccess.

// minTokenLength is how many characters a token has at least.
const minTokenLength = 16

// NewToken returns a token for WithToken: 64 hexadecimal digits, 256 random bits.
func NewToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// WithToken lets in who has the token, on this machine. A browser opens the page's URL with
// "?token=TOKEN" once, as the program prints it, and has a cookie then; other programs send
// "Authorization: Bearer TOKEN". Whoever has it may do everything.
//
// It panics if the token is shorter than 16 characters. NewToken makes one.
func WithToken(token string) Option {
	if len(token) < minTokenLength {
		panic(fmt.Sprintf("ui: WithToken: a token of %d characters: want %d or more; NewToken makes one", len(token), minTokenLength))
	}
	return func(c *config) { c.token = token }
}

// WithLocalAccess lets in every user and every program of this machine, to do everything. A
// request counts as this machine's if it comes from a loopback address, to one or to
// "localhost", with no header that a proxy adds. Use it only where no proxy of this machine
// serves others: one that adds no such header, as nginx does by default, cannot be told
// from a local user.
func WithLocalAccess() Option { return func(c *config) { c.localAccess = true } }

var (
	errNoAccess = errors.New("the program does not say who may come in: ui.WithAuthorize, ui.WithToken or ui.WithLocalAccess")
	errRemote   = errors.New("requests from other machines, and through proxies, are refused: ui.WithAuthorize says who may do what")
	errNoToken  = errors.New("open the page with the URL that the program printed, which has a token, or send it as \"Authorization: Bearer TOKEN\"")
)

// admit lets a request in, or has answered it.
func (h *handler) admit(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case h.authorizer != nil: // asked for each action
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
	if scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") && h.isToken(given) {
		return true
	}
	for _, c := range r.CookiesNamed(h.cookieName()) {
		if h.isToken(c.Value) {
			return true
		}
	}
	return false
}

// isToken compares in a time that says nothing.
func (h *handler) isToken(given string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(h.token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// cookieName differs from program to program: the ports of a machine share its cookies.
func (h *handler) cookieName() string {
	sum := sha256.Sum256([]byte("stint cookie " + h.token))
	return "stint-" + hex.EncodeToString(sum[:4])
}

// setTokenCookie gives a browser the cookie, and shows the page without the token in its URL.
func (h *handler) setTokenCookie(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: h.cookieName(), Value: h.token, Path: h.base + "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode})
	q := r.URL.Query()
	q.Del("token")
	to, ok := h.localPath(strings.TrimSuffix(r.URL.EscapedPath()+"?"+q.Encode(), "?"))
	if !ok {
		to = h.base + "/"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// localPath returns a path of this handler's, with its query, as a browser understands it; ok
// is false for all else, such as what leads to another host.
func (h *handler) localPath(text string) (to string, ok bool) {
	for _, c := range text {
		if c <= ' ' || c == 0x7f || c == '\\' { // browsers pass some of these by, and take \ for /
			return "", false
		}
	}
	u, err := url.Parse(text)
	if err != nil || u.IsAbs() || u.Host != "" || u.Opaque != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(text, "//") {
		return "", false
	}
	for _, c := range u.Path {
		if c < ' ' || c == 0x7f || c == '\\' {
			return "", false
		}
	}
	escaped := dotEscape.ReplaceAllString(u.EscapedPath(), ".") // browsers take it for a dot
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
var proxyHeaders = []string{"Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Original-Forwarded-For", "X-Original-Host", "X-Original-Url",
	"X-Rewrite-Url", "X-Proxyuser-Ip", "X-Envoy-External-Address", "X-Envoy-Peer-Metadata", "True-Client-Ip", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Cf-Ray",
	"Fastly-Client-Ip", "Client-Ip", "Fly-Client-Ip", "X-Appengine-User-Ip", "X-Azure-Clientip", "X-Azure-Socketip", "X-Arr-Log-Id", "X-Amzn-Trace-Id", "Proxy-Connection"}

// isLocal reports whether a request was made on this machine, to this machine: not through
// a proxy that says so, and not by a page whose name resolves to this machine. It is no
// proof that a proxy which says nothing does not serve others.
func isLocal(r *http.Request) bool {
	for name := range r.Header { // one without a value was added, too
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
