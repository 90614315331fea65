package anchor

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/timestamp/timestamptest"
)

func refuseAll(*http.Response) (*http.Response, error) { return nil, errors.New("connection refused") }

// TestLyingAuthority: nothing of what a bad authority answers is kept, and the good
// ones' tokens are.
func TestLyingAuthority(t *testing.T) {
	type reply = func(*http.Response) (*http.Response, error)
	status := func(code int) reply {
		return func(good *http.Response) (*http.Response, error) {
			good.StatusCode = code
			good.Header.Set("Location", "http://one.test/tsr")
			return good, nil
		}
	}
	body := func(change func([]byte) []byte) reply {
		return func(good *http.Response) (*http.Response, error) {
			raw, err := io.ReadAll(good.Body)
			if err != nil {
				return nil, err
			}
			return timestampReply(change(raw)), nil
		}
	}
	var other []byte // an answer to another question
	for name, lie := range map[string]struct {
		reply  reply
		change func(*timestamptest.Draft)
		off    time.Duration
	}{
		"garbage":        {reply: body(func([]byte) []byte { return []byte("garbage") })},
		"nothing":        {reply: body(func([]byte) []byte { return nil })},
		"endless":        {reply: body(func([]byte) []byte { return make([]byte, 10<<20) })},
		"a byte more":    {reply: body(func(raw []byte) []byte { return append(raw, 0) })},
		"a byte less":    {reply: body(func(raw []byte) []byte { return raw[:len(raw)-1] })},
		"a byte changed": {reply: body(func(raw []byte) []byte { raw[len(raw)-10] ^= 1; return raw })},
		"refused":        {reply: body(func([]byte) []byte { return timestamptest.Sequence(timestamptest.Sequence(timestamptest.Int(2))) })},
		"status 500":     {reply: status(500)},
		"status 204":     {reply: status(204)},
		"redirect":       {reply: status(307)},
		"another type": {reply: func(good *http.Response) (*http.Response, error) {
			good.Header.Set("Content-Type", "text/html")
			return good, nil
		}},
		"no type": {reply: func(good *http.Response) (*http.Response, error) { good.Header.Del("Content-Type"); return good, nil }},
		"breaks off": {reply: func(good *http.Response) (*http.Response, error) {
			good.Body = io.NopCloser(brokenBody{})
			return good, nil
		}},
		"no connection":     {reply: refuseAll},
		"another authority": {change: func(d *timestamptest.Draft) { d.As(timestamptest.New("third").Unit) }},
		"no nonce":          {change: func(d *timestamptest.Draft) { d.Nonce = nil }},
		"another nonce":     {change: func(d *timestamptest.Draft) { d.Nonce = timestamptest.Int(7) }},
		"another digest": {change: func(d *timestamptest.Draft) {
			d.Imprint = bytes.Replace(d.Imprint, d.Imprint[len(d.Imprint)-4:], []byte("abcd"), 1)
		}},
		"another policy":     {change: func(d *timestamptest.Draft) { d.Policy = timestamptest.OID("1.2.3.4") }},
		"dated a day back":   {off: -24 * time.Hour},
		"dated a day ahead":  {off: 24 * time.Hour},
		"just too far back":  {off: -maxSkew - time.Second},
		"just too far ahead": {off: maxSkew + time.Second},
		"an earlier answer": {reply: func(good *http.Response) (*http.Response, error) {
			raw, err := io.ReadAll(good.Body)
			if other == nil {
				other = raw
				return timestampReply([]byte("x")), err
			}
			return timestampReply(other), err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.tsas["one.test"]
			a.reply, a.change = lie.reply, lie.change
			a.now = func() time.Time { return w.now.Add(lie.off) }
			w.publish(3)
			w.step()
			w.want("with a liar", "3 p1.test/4 p1.test/6 p2.test/4 t2")
			w.pass(time.Hour)
			if name == "an earlier answer" {
				_ = w.worker.Step(t.Context())
				w.want("with an earlier answer", "3 p1.test/4 p1.test/6 p2.test/4 t2")
				w.pass(time.Hour)
			}
			if !strings.Contains(w.lines.String(), "anchor=t1") {
				t.Errorf("the liar is not named: %s", &w.lines)
			}
			a.reply, a.change, a.now = nil, nil, func() time.Time { return w.now }
			w.pass(2 * time.Hour)
			w.step()
			w.want("it has come to its senses", "3 p1.test/4 p1.test/6 p2.test/4 t2 t1")
		})
	}
}

// TestSkewOfAuthority: within the skew it is taken.
func TestSkewOfAuthority(t *testing.T) {
	for _, off := range []time.Duration{maxSkew, -maxSkew} {
		w := newWorld(t)
		w.tsas["one.test"].now = func() time.Time { return w.now.Add(off) }
		w.publish(3)
		w.step()
		w.want(off.String(), all(3))
	}
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("broken off") }
