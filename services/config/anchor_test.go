package config_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/services/config"
)

func goodAnchors() *config.Anchors {
	return &config.Anchors{
		Interval: config.Duration(5 * time.Minute),
		Witnesses: []config.AnchorWitness{
			{Name: "public-1", Keys: []string{"w.test/1+00000000+AA==", "w.test/1+00000001+AA=="}, URL: "https://w.test/prefix/"},
			{Name: "public_2.test", Keys: []string{"w.test/2+00000000+AA=="}, URL: "http://127.0.0.1:8099"},
		},
		Authorities: []config.AnchorAuthority{
			{Name: "tsa", URL: "https://tsa.test/tsr?x=1", Certificate: "tsa.pem", Policy: "1.3.6.1.4.1.99999.1"},
			{Name: "other", URL: "http://tsa.test/", Certificate: "/etc/tsa.pem"},
		},
	}
}

func TestParseAnchors(t *testing.T) {
	for name, change := range map[string]func(*config.Anchors){
		"all":                 func(*config.Anchors) {},
		"no interval":         func(a *config.Anchors) { a.Interval = 0 },
		"least interval":      func(a *config.Anchors) { a.Interval = config.Duration(time.Minute) },
		"witnesses only":      func(a *config.Anchors) { a.Authorities = nil },
		"authorities only":    func(a *config.Anchors) { a.Witnesses = nil },
		"arcs below 2":        func(a *config.Anchors) { a.Authorities[0].Policy = "2.999.0" },
		"sixteen authorities": func(a *config.Anchors) { a.Authorities = many(a.Authorities[1], 16) },
	} {
		c := goodLog()
		c.Anchors = goodAnchors()
		change(c.Anchors)
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := config.ParseLog(raw)
		if err != nil || !reflect.DeepEqual(got.Anchors, c.Anchors) {
			t.Errorf("%s: read %+v, %v", name, got, err)
		}
	}
	a := goodAnchors()
	under := a.Under("/data")
	if under.Authorities[0].Certificate != "/data/tsa.pem" || under.Authorities[1].Certificate != "/etc/tsa.pem" {
		t.Errorf("certificates at %+v", under.Authorities)
	}
	if a.Authorities[0].Certificate != "tsa.pem" || (*config.Anchors)(nil).Under("/data") != nil {
		t.Error("Under has changed what it was given")
	}
	if a.Pace() != 5*time.Minute || (&config.Anchors{}).Pace() != time.Minute {
		t.Errorf("pace %s", a.Pace())
	}
}

func many(a config.AnchorAuthority, n int) []config.AnchorAuthority {
	list := make([]config.AnchorAuthority, n)
	for i := range list {
		list[i] = a
		list[i].Name += strings.Repeat("x", i)
	}
	return list
}

func TestAnchorsRefused(t *testing.T) {
	for field, changes := range map[string][]func(*config.Anchors){
		"anchors.interval": {
			func(a *config.Anchors) { a.Interval = config.Duration(time.Minute - 1) },
			func(a *config.Anchors) { a.Interval = config.Duration(-time.Hour) },
		},
		"anchors.witnesses: expected a witness or": {func(a *config.Anchors) { a.Witnesses, a.Authorities = nil, nil }},
		"anchors.witnesses: expected at most": {func(a *config.Anchors) {
			a.Witnesses = make([]config.AnchorWitness, 17)
		}},
		"anchors.authorities:": {func(a *config.Anchors) { a.Authorities = many(a.Authorities[0], 17) }},
		"anchors.witnesses[1].name": {
			func(a *config.Anchors) { a.Witnesses[1].Name = "" },
			func(a *config.Anchors) { a.Witnesses[1].Name = "a b" },
			func(a *config.Anchors) { a.Witnesses[1].Name = "ä" },
			func(a *config.Anchors) { a.Witnesses[1].Name = strings.Repeat("x", 101) },
			func(a *config.Anchors) { a.Witnesses[1].Name = a.Witnesses[0].Name },
		},
		"anchors.witnesses[0].keys": {
			func(a *config.Anchors) { a.Witnesses[0].Keys = nil },
			func(a *config.Anchors) { a.Witnesses[0].Keys = make([]string, 3) },
		},
		"anchors.witnesses[0].keys[1]": {
			func(a *config.Anchors) { a.Witnesses[0].Keys[1] = "x" },
			func(a *config.Anchors) { a.Witnesses[0].Keys[1] = "PRIVATE+KEY+secret+x+y" },
			func(a *config.Anchors) { a.Witnesses[0].Keys[1] = "a+b+c https://x" },
		},
		"anchors.witnesses[0].url": {
			func(a *config.Anchors) { a.Witnesses[0].URL = "" },
			func(a *config.Anchors) { a.Witnesses[0].URL = "ftp://w.test" },
			func(a *config.Anchors) { a.Witnesses[0].URL = "https://user:secret@w.test" },
			func(a *config.Anchors) { a.Witnesses[0].URL = "https://w.test/\nquorum none" },
		},
		"anchors.authorities[0].name":        {func(a *config.Anchors) { a.Authorities[0].Name = a.Witnesses[0].Name }},
		"anchors.authorities[0].url":         {func(a *config.Anchors) { a.Authorities[0].URL = "tsa.test" }},
		"anchors.authorities[0].certificate": {func(a *config.Anchors) { a.Authorities[0].Certificate = "" }},
		"anchors.authorities[0].policy": {
			func(a *config.Anchors) { a.Authorities[0].Policy = "1" },
			func(a *config.Anchors) { a.Authorities[0].Policy = "1.40" },
			func(a *config.Anchors) { a.Authorities[0].Policy = "3.1" },
			func(a *config.Anchors) { a.Authorities[0].Policy = "1.02" },
			func(a *config.Anchors) { a.Authorities[0].Policy = "1..2" },
			func(a *config.Anchors) { a.Authorities[0].Policy = "1.2.4294967296" },
		},
	} {
		for i, change := range changes {
			c := goodLog()
			c.Anchors = goodAnchors()
			change(c.Anchors)
			err := c.Validate()
			if err == nil || !strings.Contains(err.Error(), field) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s, %d: %v", field, i, err)
			}
		}
	}
	for _, anchors := range []string{
		`{"interval": 60}`, `{"interval": "a minute"}`, `{"interval": null, "x": 1}`, `{"Interval": "5m"}`, `{"interval": "5m", "interval": "6m"}`, `[]`,
	} {
		raw, err := json.Marshal(goodLog())
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(raw), `"log":`, `"anchors":`+anchors+`,"log":`, 1)
		if c, err := config.ParseLog([]byte(text)); err == nil {
			t.Errorf("%s: read as %+v", anchors, c.Anchors)
		}
	}
}

func TestClockSources(t *testing.T) {
	for source, good := range map[string]bool{
		"ntp://a.test": true, "witness+https://w.test/p?origin=o#key": true, "rfc3161+http://tsa.test/#tsa.pem": true,
		"http://a.test": false, "witness://a.test": false, "ntp:a.test": false, "": false,
	} {
		c := goodLog()
		c.ClockSources = []string{source}
		if err := c.Validate(); (err == nil) != good {
			t.Errorf("%q: %v", source, err)
		}
	}
}
