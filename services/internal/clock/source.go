package clock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/trialog/trialog/services/internal/run"
)

// Parser makes sources of the addresses in a configuration.
type Parser struct {
	// Now is the clock that is compared.
	Now func() time.Time
	// Dir is the folder that certificate files are relative to; empty for the
	// working directory.
	Dir string
	// HTTP makes the requests of sources that speak HTTP; nil for a client of
	// their own.
	HTTP *http.Client
	// Monotonic is as in Config, nil for the default.
	Monotonic func() time.Duration
	// Pause waits; another one in tests only.
	Pause func(context.Context, time.Duration) error
}

func (p Parser) pause() func(context.Context, time.Duration) error {
	if p.Pause != nil {
		return p.Pause
	}
	return run.Pause
}

// errAddress says what addresses of sources look like.
var errAddress = errors.New("source of time: expected ntp://HOST[:PORT], witness+https://HOST/PREFIX?origin=ORIGIN#VKEY or " +
	"rfc3161+https://HOST/PATH[?accuracy=DURATION]#CERTIFICATE-FILE")

// Parse makes the source at an address:
//
//   - "ntp://HOST" or "ntp://HOST:PORT", see NTP;
//   - "witness+https://HOST/PREFIX?origin=ORIGIN#VKEY", see Witness;
//   - "rfc3161+https://HOST/PATH#FILE", see Authority. "?accuracy=500ms" says how
//     far its times may be off, for an authority whose tokens do not.
//
// In place of https there may be http: what the two answer is signed.
func (p Parser) Parse(address string) (Source, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return nil, errAddress
	}
	kind, transport, _ := strings.Cut(scheme, "+")
	switch {
	case scheme == "ntp":
		return p.parseNTP(address)
	case transport != "http" && transport != "https":
		return nil, errAddress
	case kind == "witness":
		return p.parseWitness(transport + "://" + rest)
	case kind == "rfc3161":
		return p.parseAuthority(transport + "://" + rest)
	}
	return nil, errAddress
}

func (p Parser) parseNTP(address string) (Source, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil ||
		strings.TrimPrefix(address, "ntp://") != u.Host || strings.Contains(u.Hostname(), ":") != strings.HasPrefix(u.Host, "[") {
		return nil, errAddress
	}
	port := u.Port()
	if port == "" {
		port = "123"
	}
	return NewNTP(net.JoinHostPort(strings.ToLower(u.Hostname()), port), p.Now)
}

// httpAddress takes an address with one optional parameter and a fragment apart.
// The fragment is taken as it stands: a vkey holds signs that have another
// meaning in a URL.
func httpAddress(address, parameter string) (target, value, fragment string, err error) {
	target, fragment, _ = strings.Cut(address, "#")
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.User != nil || fragment == "" {
		return "", "", "", errAddress
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", "", "", errAddress
	}
	for name, values := range query {
		if name != parameter || len(values) != 1 {
			return "", "", "", fmt.Errorf("source of time: unexpected parameter %q, there may be one %q", name, parameter)
		}
	}
	value = query.Get(parameter)
	u.RawQuery = ""
	u.Host = strings.ToLower(u.Host) // one source has one name
	return strings.TrimSuffix(u.String(), "/"), value, fragment, nil
}

// client returns the one that was given, or one that follows no redirects: they
// would lead to somebody that nobody named.
func (p Parser) client() *http.Client {
	if p.HTTP != nil {
		return p.HTTP
	}
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
