package gateway

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

func requestTypes() []proto.Message {
	return []proto.Message{&trialogv1.PrepareRequest{}, &trialogv1.SubmitRequest{}, &trialogv1.ReceiveRequest{}}
}

// FuzzDecodeJSON: what the strict decoder takes, ProtoJSON takes, to the same
// message; and what ProtoJSON writes of it, the strict decoder reads back.
func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"envelope":"AA==","beacon":"x","wait":"WAIT_PENDING"}`, `{"request_id":"r","draft":{"dates":{"a":"2026"}}}`,
		`{"signers":[{"key":"k","meaning":"review"}],"draft":{"attributes":{"n":1,"l":["a"],"o":{"b":true}}}}`,
		`{"draft":{"documentSha256":"x"},"requestId":"r"}`, `{"wait":1}`, `{"envelope":null}`, `{"a":{"b":[[[]]]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, m := range requestTypes() {
			got, loose := m.ProtoReflect().New().Interface(), m.ProtoReflect().New().Interface()
			if decodeJSON(raw, got) != nil {
				continue
			}
			if err := protojson.Unmarshal(raw, loose); err != nil || !proto.Equal(got, loose) {
				t.Fatalf("%s reads differently: %v", raw, err)
			}
			if knownFields(got.ProtoReflect(), "") != nil {
				t.Fatalf("%s holds unknown fields", raw)
			}
			text, err := protojson.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			again := m.ProtoReflect().New().Interface()
			if err := decodeJSON(text, again); err != nil || !proto.Equal(got, again) {
				t.Fatalf("%s does not read back: %v", text, err)
			}
		}
	})
}

func TestDecodeJSONLongNames(t *testing.T) {
	long := make([]byte, 5000)
	for i := range long {
		long[i] = 'x'
	}
	err := decodeJSON([]byte(`{"`+string(long)+`":1}`), &trialogv1.SubmitRequest{})
	if err == nil || len(err.Error()) > 400 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}
