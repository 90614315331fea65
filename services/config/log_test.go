package config_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/config"
)

func goodLog() config.Log {
	return config.Log{
		Log: "log.test/trials", Operator: "Somebody", Witnesses: []string{"127.0.0.1:8091"},
		Shards: []config.Shard{
			config.NewShard("log.test/trials", "1"),
			{
				Origin: "log.test/trials/2", Store: "postgres://trialog@db.test/two", Tiles: "s3://tiles?prefix=2/",
				Register: "s3://registers/2", Ledger: "/var/ledger", Keys: "/var/keys",
			},
		},
		ClockSources: []string{"ntp://a.test", "ntp://b.test:1123"},
	}
}

func TestParseLog(t *testing.T) {
	want := goodLog()
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.ParseLog(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Shards, want.Shards) || !slices.Equal(got.ClockSources, want.ClockSources) {
		t.Errorf("read %+v, expected %+v", got, want)
	}
	if name := got.Shards[1].Name(); name != "2" {
		t.Errorf("name %q, expected 2", name)
	}
}

// TestParseLogOfOneShard: a log that was made when there was only one shard goes
// on where its files lie.
func TestParseLogOfOneShard(t *testing.T) {
	c, err := config.ParseLog([]byte(`{"log":"log.test/trials","origin":"log.test/trials/1","operator":"Somebody","witnesses":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Shard{
		Origin: "log.test/trials/1", Store: "pebble:store", Tiles: "file:tiles", Register: "file:register/register",
		Ledger: "ledger", Keys: "keys",
	}
	if len(c.Shards) != 1 || c.Shards[0] != want || c.Origin != "" {
		t.Errorf("read %+v, expected the shard %+v", c, want)
	}
}

func TestLogRefused(t *testing.T) {
	for field, change := range map[string]func(*config.Log){
		"log:":              func(c *config.Log) { c.Log = "" },
		"operator:":         func(c *config.Log) { c.Operator = "" },
		"origin:":           func(c *config.Log) { c.Origin = "log.test/trials/1" },
		"shards:":           func(c *config.Log) { c.Shards = nil },
		"witnesses[0]:":     func(c *config.Log) { c.Witnesses[0] = "8091" },
		"clock_sources[1]:": func(c *config.Log) { c.ClockSources[1] = "https://b.test" },
		"clock_sources[0]:": func(c *config.Log) { c.ClockSources[0] = "ntp://" },
		"shards[1].origin:": func(c *config.Log) { c.Shards[1].Origin = "log.test/other/2" },
		"shards[0].origin:": func(c *config.Log) { c.Shards[0].Origin = "log.test/trials/1/2" },
		"shards[0].origin: expected a shard's name": func(c *config.Log) { c.Shards[0].Origin = "log.test/trials/.." },
		"shards[1].store:":                          func(c *config.Log) { c.Shards[1].Store = "mysql://db" },
		"shards[0].store:":                          func(c *config.Log) { c.Shards[0].Store = "pebble:" },
		"shards[1].tiles:":                          func(c *config.Log) { c.Shards[1].Tiles = "/var/tiles" },
		"shards[1].register:":                       func(c *config.Log) { c.Shards[1].Register = "pebble:x" },
		"shards[1].ledger:":                         func(c *config.Log) { c.Shards[1].Ledger = "" },
		"shards[1].keys:":                           func(c *config.Log) { c.Shards[1].Keys = "" },
	} {
		c := goodLog()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), "log config: "+field) {
			t.Errorf("%s error %v", field, err)
		}
	}
}

func TestShardsShareNothing(t *testing.T) {
	for name, change := range map[string]func(*config.Log){
		"origin":   func(c *config.Log) { c.Shards[1].Origin = c.Shards[0].Origin },
		"store":    func(c *config.Log) { c.Shards[1].Store = c.Shards[0].Store },
		"tiles":    func(c *config.Log) { c.Shards[1].Tiles = c.Shards[0].Tiles },
		"register": func(c *config.Log) { c.Shards[1].Register = c.Shards[0].Register },
		"ledger":   func(c *config.Log) { c.Shards[1].Ledger = c.Shards[0].Ledger },
		"keys":     func(c *config.Log) { c.Shards[1].Keys = c.Shards[0].Keys },
	} {
		c := goodLog()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "shards[1]."+name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestNoPasswords: the file is copied about; a password in it is refused, and the
// message does not repeat it.
func TestNoPasswords(t *testing.T) {
	c := goodLog()
	c.Shards[1].Store = "postgres://trialog:hunter2@db.test/two"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "shards[1].store") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
	c.Shards[1].Store = "mysql://trialog:hunter2@db.test/two"
	if err := c.Validate(); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
}

// TestPasswordsInParameters: libpq takes them there too.
func TestPasswordsInParameters(t *testing.T) {
	for name, change := range map[string]func(*config.Log){
		"parameter":         func(c *config.Log) { c.Shards[1].Store = "postgres://trialog@db.test/two?password=hunter2" },
		"escaped name":      func(c *config.Log) { c.Shards[1].Store = "postgres://trialog@db.test/two?pass%77ord=hunter2" },
		"key's password":    func(c *config.Log) { c.Shards[1].Store = "postgres://trialog@db.test/two?sslpassword=hunter2" },
		"not a URL":         func(c *config.Log) { c.Shards[1].Store = "postgres://trialog:hunter2%zz@db.test/two" },
		"no parameters":     func(c *config.Log) { c.Shards[1].Store = "postgres://trialog@db.test/two?a=%zzhunter2" },
		"another scheme":    func(c *config.Log) { c.Shards[1].Store = "mysql://db.test/two?password=hunter2" },
		"secret of a store": func(c *config.Log) { c.Shards[1].Tiles = "s3://tiles?secret_access_key=hunter2" },
		"user of a store":   func(c *config.Log) { c.Shards[1].Register = "s3://me:hunter2@registers/2" },
	} {
		c := goodLog()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "shards[1].") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestOneSpelling: the same place in other words is the same place.
func TestOneSpelling(t *testing.T) {
	for field, change := range map[string]func(*config.Shard){
		"store":    func(s *config.Shard) { s.Store = "pebble:shards/1/./store" },
		"tiles":    func(s *config.Shard) { s.Tiles = "file:shards//1/tiles/" },
		"register": func(s *config.Shard) { s.Register = "file:./registers/1" },
		"ledger":   func(s *config.Shard) { s.Ledger = "shards/2/../1/ledger" },
		"keys":     func(s *config.Shard) { s.Keys = "shards/1/keys/" },
	} {
		c := goodLog()
		change(&c.Shards[1])
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "shards[1]."+field) || !strings.Contains(err.Error(), "already") {
			t.Errorf("%s: error %v", field, err)
		}
	}
}

func TestUnder(t *testing.T) {
	c := goodLog()
	near, far := c.Shards[0].Under("/data"), c.Shards[1].Under("/data")
	want := config.Shard{
		Origin: "log.test/trials/1", Store: "pebble:/data/shards/1/store", Tiles: "file:/data/shards/1/tiles",
		Register: "file:/data/registers/1", Ledger: "/data/shards/1/ledger", Keys: "/data/shards/1/keys",
	}
	if near != want {
		t.Errorf("%+v, expected %+v", near, want)
	}
	if far != c.Shards[1] {
		t.Errorf("%+v, expected it unchanged", far)
	}
}
