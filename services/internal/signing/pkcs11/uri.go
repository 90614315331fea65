// Package pkcs11 signs with keys that are in PKCS#11 tokens: hardware security
// modules, smart cards, SoftHSM. It is trusted with the user PIN of the token. The
// token is trusted with nothing but to keep its keys: who calls this package
// verifies what the token answers.
package pkcs11

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Scheme is the scheme of the references.
const Scheme = "pkcs11"

// Key is a private key in a token, to be used until it is closed. It may be used
// concurrently.
type Key interface {
	crypto.Signer
	io.Closer
	// Remarks returns what an operator should know about the key, in words.
	Remarks() []string
}

// URI names one private key in one token (RFC 7512).
type URI struct {
	// Token, Serial, Manufacturer and Model say which token. Empty ones are not
	// compared; Token or Serial is set.
	Token, Serial, Manufacturer, Model string
	// Object is the key's label (CKA_LABEL) and ID its id (CKA_ID). Empty ones
	// are not compared; one of the two is set.
	Object string
	ID     []byte
	// ModulePath is the absolute path of the library that talks to the token.
	ModulePath string
	// PINFile is the absolute path of the file with the user PIN.
	PINFile string
}

// The longest label and serial number that a token has (PKCS #11, CK_TOKEN_INFO).
const (
	maxLabel  = 32
	maxSerial = 16
)

// Parse reads a URI strictly, for example
//
//	pkcs11:token=trialog;object=log-2026?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/trialog/pin
//
// Understood are the path attributes token, serial, manufacturer, model, object,
// id and type (which can only be private) and the query attributes module-path and
// pin-source, both of which must be there with absolute paths. Refused are all
// others, attributes that are there twice, and pin-value: a PIN comes from a file
// and from nowhere else. The error does not repeat values, of which one may be a
// PIN.
func Parse(ref string) (URI, error) {
	u, err := parse(ref)
	if err == nil {
		err = u.check()
	}
	if err != nil {
		return URI{}, fmt.Errorf("pkcs11 reference: %w", err)
	}
	return u, nil
}

func parse(ref string) (URI, error) {
	rest, ok := strings.CutPrefix(ref, Scheme+":")
	if !ok {
		return URI{}, errors.New("expected a URI of the scheme pkcs11")
	}
	path, query, asked := strings.Cut(rest, "?")
	var u URI
	if err := attributes(path, ";", pathCharacters, pathAttributes(&u)); err != nil {
		return URI{}, err
	}
	if !asked {
		return URI{}, errors.New("expected ? and module-path and pin-source behind it")
	}
	if err := attributes(query, "&", queryCharacters, queryAttributes(&u)); err != nil {
		return URI{}, err
	}
	return u, nil
}

func (u URI) check() error {
	switch {
	case u.Token == "" && u.Serial == "":
		return errors.New("expected token= or serial=, to know the token")
	case u.Object == "" && len(u.ID) == 0:
		return errors.New("expected object= or id=, to know the key")
	case u.ModulePath == "":
		return errors.New("expected module-path=, the library of the token")
	case u.PINFile == "":
		return errors.New("expected pin-source=file:, the file with the PIN")
	}
	return nil
}

// text is an attribute whose value is set once, if it is text of at most so many
// bytes (0: any number).
func text(into *string, most int) func(string) error {
	return func(value string) error {
		if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			return errors.New("expected UTF-8 text without control characters")
		}
		if most > 0 && len(value) > most {
			return fmt.Errorf("expected at most %d bytes", most)
		}
		*into = value
		return nil
	}
}

func absolutePath(into *string) func(string) error {
	return func(value string) error {
		if err := text(into, 0)(value); err != nil {
			return err
		}
		if !filepath.IsAbs(value) {
			return errors.New("expected an absolute path")
		}
		return nil
	}
}

func refused(why string) func(string) error {
	return func(string) error { return errors.New(why) }
}

// pathAttributes are the attributes before the question mark.
func pathAttributes(u *URI) map[string]func(string) error {
	return map[string]func(string) error{
		"token": text(&u.Token, maxLabel), "manufacturer": text(&u.Manufacturer, maxLabel),
		"serial": text(&u.Serial, maxSerial), "model": text(&u.Model, maxSerial),
		"object": text(&u.Object, 0),
		"id":     func(value string) error { u.ID = []byte(value); return nil },
		"type": func(value string) error {
			if value != "private" {
				return errors.New("expected private")
			}
			return nil
		},
		// Slots are numbered anew when tokens come and go.
		"slot-id": refused("not supported, expected token= or serial="),
	}
}

// queryAttributes are the attributes behind the question mark.
func queryAttributes(u *URI) map[string]func(string) error {
	return map[string]func(string) error{
		"module-path": absolutePath(&u.ModulePath),
		"module-name": refused("not supported, expected module-path="),
		"pin-source": func(value string) error {
			path, ok := strings.CutPrefix(value, "file:")
			if !ok {
				return errors.New("expected file: and an absolute path")
			}
			if rest, found := strings.CutPrefix(path, "//"); found { // an empty host (RFC 8089)
				path = rest
			}
			return absolutePath(&u.PINFile)(path)
		},
		"pin-value": refused("a PIN in a reference is a PIN in configurations and logs, expected pin-source=file:"),
	}
}

// SPEC (RFC 7512 section 2.3): pk11-res-avail, pk11-path-res-avail and
// pk11-query-res-avail, beside the unreserved characters of RFC 3986.
const (
	reservedCharacters = ":[]@!$'()*+,="
	pathCharacters     = reservedCharacters + "&"
	queryCharacters    = reservedCharacters + "/?|"
)

// attributes hands each attribute of a part to its place.
func attributes(part, separator, allowed string, places map[string]func(string) error) error {
	for attribute := range strings.SplitSeq(part, separator) {
		name, encoded, ok := strings.Cut(attribute, "=")
		if !ok {
			return errors.New("expected attributes of the form name=value")
		}
		place, known := places[name]
		if !known {
			// The name of an unknown attribute is no secret, but may be anything.
			return fmt.Errorf("attribute %.40q is unknown, is there twice, or stands on the wrong side of the question mark", name)
		}
		// SPEC (RFC 7512 section 2.3): the attribute […] MUST NOT be specified more
		// than once.
		delete(places, name)
		value, err := decode(encoded, allowed)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if value == "" {
			return fmt.Errorf("%s: expected a value", name)
		}
		if err := place(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func plain(c byte, allowed string) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~"+allowed, c) >= 0
}

func decode(encoded, allowed string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(encoded); i++ {
		c := encoded[i]
		switch {
		case c == '%':
			if i+2 >= len(encoded) {
				return "", errors.New("expected two hex digits behind the percent sign")
			}
			raw, err := hex.DecodeString(encoded[i+1 : i+3])
			if err != nil {
				return "", errors.New("expected two hex digits behind the percent sign")
			}
			b.Write(raw)
			i += 2
		case plain(c, allowed):
			b.WriteByte(c)
		default:
			return "", errors.New("holds a character that has to be percent-encoded")
		}
	}
	return b.String(), nil
}

func encode(value, allowed string) string {
	var b strings.Builder
	for i := range len(value) {
		if plain(value[i], allowed) {
			b.WriteByte(value[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", value[i])
		}
	}
	return b.String()
}

// String returns the URI in one spelling, as Parse reads it.
func (u URI) String() string {
	var path []string
	for _, a := range []struct{ name, value string }{
		{"token", u.Token}, {"manufacturer", u.Manufacturer}, {"serial", u.Serial}, {"model", u.Model}, {"object", u.Object},
	} {
		if a.value != "" {
			path = append(path, a.name+"="+encode(a.value, pathCharacters))
		}
	}
	if len(u.ID) > 0 {
		// SPEC (RFC 7512 section 2.3): the value of the "id" attribute SHOULD be
		// percent-encoded as a whole.
		path = append(path, "id="+encodeWhole(u.ID))
	}
	return Scheme + ":" + strings.Join(path, ";") +
		"?module-path=" + encode(u.ModulePath, queryCharacters) + "&pin-source=file:" + encode(u.PINFile, queryCharacters)
}

func encodeWhole(value []byte) string {
	var b strings.Builder
	for _, c := range value {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// fits tells whether a token is the one that is named. Tokens pad with spaces.
func (u URI) fits(label, serial, manufacturer, model string) bool {
	for _, c := range []struct{ want, got string }{
		{u.Token, label}, {u.Serial, serial}, {u.Manufacturer, manufacturer}, {u.Model, model},
	} {
		if c.want != "" && strings.TrimRight(c.got, " \x00") != strings.TrimRight(c.want, " ") {
			return false
		}
	}
	return true
}
