package pkcs11

import (
	"reflect"
	"strings"
	"testing"
)

const (
	testModule = "module-path=/usr/lib/hsm.so"
	testPIN    = "pin-source=file:/etc/trialog/pin"
	testQuery  = "?" + testModule + "&" + testPIN
)

func TestParse(t *testing.T) {
	base := URI{ModulePath: "/usr/lib/hsm.so", PINFile: "/etc/trialog/pin"}
	with := func(change func(*URI)) URI { u := base; change(&u); return u }
	for _, c := range []struct {
		ref  string
		want URI
		text string // how it is written again; empty: as it was
	}{
		{"pkcs11:token=a;object=b" + testQuery, with(func(u *URI) { u.Token, u.Object = "a", "b" }), ""},
		{"pkcs11:serial=1;id=%01%FF" + testQuery, with(func(u *URI) { u.Serial, u.ID = "1", []byte{1, 255} }), ""},
		{
			"pkcs11:token=a;manufacturer=m;serial=1;model=x;object=b;id=%00" + testQuery,
			with(func(u *URI) {
				u.Token, u.Manufacturer, u.Serial, u.Model, u.Object, u.ID = "a", "m", "1", "x", "b", []byte{0}
			}), "",
		},
		{
			"pkcs11:object=b;type=private;token=a" + testQuery,
			with(func(u *URI) { u.Token, u.Object = "a", "b" }),
			"pkcs11:token=a;object=b" + testQuery,
		},
		{
			"pkcs11:token=My%20token;object=k%C3%A9y%2fx&=:" + testQuery,
			with(func(u *URI) { u.Token, u.Object = "My token", "kéy/x&=:" }),
			"pkcs11:token=My%20token;object=k%C3%A9y%2Fx&=:" + testQuery,
		},
		{
			"pkcs11:token=a;id=A1?pin-source=file:///etc/trialog/pin&" + testModule,
			with(func(u *URI) { u.Token, u.ID = "a", []byte("A1") }),
			"pkcs11:token=a;id=%41%31" + testQuery,
		},
	} {
		got, err := Parse(c.ref)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%+v, %v, want\n%+v", c.ref, got, err, c.want)
			continue
		}
		if c.text == "" {
			c.text = c.ref
		}
		if got.String() != c.text {
			t.Errorf("%s is written %s", c.ref, got)
		}
	}
}

func TestParseRejects(t *testing.T) {
	const canary = "SECRETcanary"
	for _, c := range []struct{ ref, words string }{
		{"", "the scheme pkcs11"},
		{"PKCS11:token=a;object=b" + testQuery, "the scheme pkcs11"},
		{"pkcs11:", "of the form name=value"},
		{"pkcs11:" + testQuery, "of the form name=value"},
		{"pkcs11:token=a;object=b", "expected ?"},
		{"pkcs11:token=a;object=b?", "of the form name=value"},
		{"pkcs11:token=a;object=b?" + testModule, "expected pin-source="},
		{"pkcs11:token=a;object=b?" + testPIN, "expected module-path="},
		{"pkcs11:object=b" + testQuery, "expected token= or serial="},
		{"pkcs11:manufacturer=m;object=b" + testQuery, "expected token= or serial="},
		{"pkcs11:token=a" + testQuery, "expected object= or id="},
		{"pkcs11:token=a;token=a;object=b" + testQuery, `attribute "token" is unknown, is there twice`},
		{"pkcs11:token=a;object=b" + testQuery + "&" + testPIN, `attribute "pin-source" is unknown, is there twice`},
		{"pkcs11:token=a;object=b;" + testQuery, "of the form name=value"},
		{"pkcs11:token=a;;object=b" + testQuery, "of the form name=value"},
		{"pkcs11:token=;object=b" + testQuery, "token: expected a value"},
		{"pkcs11:token=a;id=" + testQuery, "id: expected a value"},
		{"pkcs11:token=a;object=b" + testQuery + "&", "of the form name=value"},
		{"pkcs11:token=a;object=b?" + testModule + "&pin-value=" + canary, "expected pin-source=file:"},
		{"pkcs11:token=a;object=b;pin-value=" + canary + testQuery, `attribute "pin-value" is unknown`},
		{"pkcs11:token=a;object=b;pin-source=file:/p?" + testModule, "the wrong side of the question mark"},
		{"pkcs11:token=a;object=b?token=a&" + testModule, "the wrong side of the question mark"},
		{"pkcs11:token=a;object=b?" + testModule + "&pin-source=" + canary, "pin-source: expected file:"},
		{"pkcs11:token=a;object=b?" + testModule + "&pin-source=/" + canary, "pin-source: expected file:"},
		{"pkcs11:token=a;object=b?" + testModule + "&pin-source=|/bin/" + canary, "pin-source: expected file:"},
		{"pkcs11:token=a;object=b?" + testModule + "&pin-source=file:" + canary, "pin-source: expected an absolute path"},
		{"pkcs11:token=a;object=b?" + testModule + "&pin-source=file://" + canary + "/x", "pin-source: expected an absolute path"},
		{"pkcs11:token=a;object=b?" + testModule + "&pin-source=file:/" + canary + "%0A", "control characters"},
		{"pkcs11:token=a;object=b?module-path=hsm.so&" + testPIN, "module-path: expected an absolute path"},
		{"pkcs11:token=a;object=b?module-name=hsm&" + testPIN, "expected module-path="},
		{"pkcs11:token=a;object=b;type=public" + testQuery, "type: expected private"},
		{"pkcs11:token=a;object=b;type=secret-key" + testQuery, "type: expected private"},
		{"pkcs11:slot-id=0;token=a;object=b" + testQuery, "slot-id: not supported"},
		{"pkcs11:library-version=1;token=a;object=b" + testQuery, `attribute "library-version" is unknown`},
		{"pkcs11:x-vendor=1;token=a;object=b" + testQuery, `attribute "x-vendor" is unknown`},
		{"pkcs11:Token=a;object=b" + testQuery, `attribute "Token" is unknown`},
		{"pkcs11:token=a b;object=b" + testQuery, "percent-encoded"},
		{"pkcs11:token=a/b;object=b" + testQuery, "percent-encoded"},
		{"pkcs11:token=é;object=b" + testQuery, "percent-encoded"},
		{"pkcs11:token=a;object=b#f" + testQuery, "percent-encoded"},
		{"pkcs11:token=a%;object=b" + testQuery, "two hex digits"},
		{"pkcs11:token=a%4;object=b" + testQuery, "two hex digits"},
		{"pkcs11:token=a%4g;object=b" + testQuery, "two hex digits"},
		{"pkcs11:token=%ff;object=b" + testQuery, "UTF-8"},
		{"pkcs11:token=a%00;object=b" + testQuery, "control characters"},
		{"pkcs11:token=a;object=b%0A" + testQuery, "control characters"},
		{"pkcs11:token=" + strings.Repeat("a", 33) + ";object=b" + testQuery, "at most 32 bytes"},
		{"pkcs11:serial=" + strings.Repeat("1", 17) + ";object=b" + testQuery, "at most 16 bytes"},
	} {
		u, err := Parse(c.ref)
		if err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%q: %v, want %q", c.ref, err, c.words)
			continue
		}
		if !strings.HasPrefix(err.Error(), "pkcs11 reference: ") || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: error is %v", c.ref, err)
		}
		if !reflect.DeepEqual(u, URI{}) {
			t.Errorf("%q: left behind %+v", c.ref, u)
		}
	}
}

func TestFits(t *testing.T) {
	u := URI{Token: "trialog", Serial: "77"}
	for _, c := range []struct {
		label, serial string
		want          bool
	}{
		{"trialog", "77", true},
		{"trialog                         ", "77              ", true},
		{"trialog\x00\x00", "77", true},
		{"trialog2", "77", false},
		{"trialog", "78", false},
		{"Trialog", "77", false},
		{"", "77", false},
	} {
		if got := u.fits(c.label, c.serial, "any", "any"); got != c.want {
			t.Errorf("%q %q: %t", c.label, c.serial, got)
		}
	}
	if (URI{Token: "a", Model: "x"}).fits("a", "", "", "y") || (URI{Token: "a", Manufacturer: "x"}).fits("a", "", "y", "") {
		t.Error("model or manufacturer are not compared")
	}
}

// FuzzParse: what parses is written in one spelling, which reads as the same.
func FuzzParse(f *testing.F) {
	f.Add("pkcs11:token=a;object=b" + testQuery)
	f.Add("pkcs11:type=private;serial=1;id=%01%ff;model=m;manufacturer=%20" + testQuery)
	f.Add("pkcs11:token=a;object=%25%3f%23" + testQuery)
	f.Fuzz(func(t *testing.T, ref string) {
		u, err := Parse(ref)
		if err != nil {
			return
		}
		text := u.String()
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("%q, written as %q, does not read: %v", ref, text, err)
		}
		if !reflect.DeepEqual(u, again) || again.String() != text {
			t.Fatalf("%q, written as %q, reads as another key", ref, text)
		}
	})
}
