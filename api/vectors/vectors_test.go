package vectors_test

import (
	"bytes"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/vectors"
	"github.com/trialog/trialog/api/vectors/generate"
)

func list(t *testing.T) []vectors.Vector {
	t.Helper()
	all, err := vectors.List()
	if err != nil {
		t.Fatal(err)
	}
	// Without this an empty list would pass.
	if len(all) < 300 {
		t.Fatalf("%d vectors, want at least 300", len(all))
	}
	return all
}

// TestVectors carries out every vector by the packages of api.
func TestVectors(t *testing.T) {
	for _, v := range list(t) {
		t.Run(v.ID, func(t *testing.T) {
			if wrong := judge(t, v, vectors.File); wrong != "" {
				t.Errorf("%s: %s", v.What, wrong)
			}
		})
	}
}

// judge runs a vector and says what is not as it states, "" if nothing is.
func judge(t *testing.T, v vectors.Vector, file func(string) ([]byte, error)) string {
	t.Helper()
	out, err := generate.Run(v, file)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case v.Expect == vectors.Accept && out.Err != nil:
		return "refused: " + out.Err.Error()
	case v.Expect == vectors.Reject && out.Err == nil:
		return "accepted"
	case v.Expect != vectors.Accept && v.Expect != vectors.Reject:
		return "expects neither accept nor reject"
	case out.Link != v.Link || out.Field != v.Field:
		return "fails at " + out.Link + out.Field + ", want " + v.Link + v.Field + ": " + out.Err.Error()
	case !maps.Equal(out.Values, v.Values):
		return "the values differ"
	}
	if v.Verdict == "" {
		if out.Verdict != nil {
			return "a verdict that the vector does not hold"
		}
		return ""
	}
	want, err := file(v.Verdict)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Verdict, want) {
		return "the verdict differs: " + string(out.Verdict)
	}
	return ""
}

// TestJudge shows that the runner notices each kind of disagreement.
func TestJudge(t *testing.T) {
	all := list(t)
	pick := func(op, expect string) vectors.Vector {
		i := slices.IndexFunc(all, func(v vectors.Vector) bool {
			return v.Op == op && v.Expect == expect && v.Field+v.Link != "" || v.Op == op && expect == vectors.Accept && v.Expect == expect
		})
		return all[i]
	}
	for name, change := range map[string]func() vectors.Vector{
		"accept": func() vectors.Vector { v := pick("verify", vectors.Accept); v.Expect = vectors.Reject; return v },
		"reject": func() vectors.Vector { v := pick("verify", vectors.Reject); v.Expect = vectors.Accept; return v },
		"link":   func() vectors.Vector { v := pick("verify", vectors.Reject); v.Link = "document"; return v },
		"field":  func() vectors.Vector { v := pick("payload", vectors.Reject); v.Field += "x"; return v },
		"values": func() vectors.Vector { v := pick("payload", vectors.Accept); v.Values = nil; return v },
		"verdict": func() vectors.Vector {
			v := pick("verify", vectors.Accept)
			v.Verdict = all[len(all)-1].Inputs["record-0"]
			return v
		},
		"no verdict": func() vectors.Vector { v := pick("verify", vectors.Accept); v.Verdict = ""; return v },
	} {
		if judge(t, change(), vectors.File) == "" {
			t.Errorf("a wrong %s goes unnoticed", name)
		}
	}
	if _, err := generate.Run(vectors.Vector{Op: "unheard"}, vectors.File); err == nil {
		t.Error("an unknown operation goes unnoticed")
	}
	v := pick("verify", vectors.Accept)
	v.Inputs = map[string]string{"policy": "no/such/file"}
	if _, err := generate.Run(v, vectors.File); err == nil {
		t.Error("a missing file goes unnoticed")
	}
}

// TestGenerated holds the files against the generator, byte for byte: no
// format drifts unseen.
func TestGenerated(t *testing.T) {
	want, err := generate.Files()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = fs.WalkDir(vectors.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == "README.md" {
			return err
		}
		seen++
		got, err := fs.ReadFile(vectors.FS(), path)
		if data, ok := want[path]; !ok {
			t.Errorf("%s is not generated; run make vectors", path)
		} else if !bytes.Equal(got, data) {
			t.Errorf("%s differs from what is generated; run make vectors if that is meant", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != len(want) {
		t.Errorf("%d files, %d are generated; run make vectors", seen, len(want))
	}
}

// TestList: every id is unique, every file is named by a vector, every
// operation is in the README.
func TestList(t *testing.T) {
	readme, err := fs.ReadFile(vectors.FS(), "README.md")
	if err != nil {
		t.Fatal(err)
	}
	ids, named := map[string]bool{}, map[string]bool{}
	for _, v := range list(t) {
		if ids[v.ID] {
			t.Errorf("two vectors %s", v.ID)
		}
		ids[v.ID] = true
		if !strings.HasPrefix(v.ID, v.Op+"-") {
			t.Errorf("%s does not begin with its operation %s", v.ID, v.Op)
		}
		if !bytes.Contains(readme, []byte("| `"+v.Op+"` |")) {
			t.Errorf("README.md does not describe the operation %s", v.Op)
		}
		for _, name := range v.Inputs {
			named[name] = true
		}
		named[v.Verdict] = true
	}
	err = fs.WalkDir(vectors.FS(), "files", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !named[strings.TrimPrefix(path, "files/")] {
			t.Errorf("no vector names %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
