// Package archcheck holds the import rules of this repository: which of its packages
// may see which, and what third parties are made to compile. The rules are a table in
// rules.go; a test reads the real package graph and reports each violation with the
// chain of imports that causes it.
package archcheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// Package is one Go package as `go list -json` describes it, reduced to what the rules need.
type Package struct {
	ImportPath   string   `json:"ImportPath"`
	Name         string   `json:"Name"`
	Standard     bool     `json:"Standard"` // of the standard library
	Module       *Module  `json:"Module"`   // nil for the standard library
	Imports      []string `json:"Imports"`
	TestImports  []string `json:"TestImports"`  // of the package's own _test files
	XTestImports []string `json:"XTestImports"` // of the _test files in the external test package
	// ImportMap gives the real path of an import whose path in the source differs
	// (packages that the standard library vendors).
	ImportMap map[string]string `json:"ImportMap"`
}

// Module is the module that a package belongs to.
type Module struct {
	Path string `json:"Path"`
	Main bool   `json:"Main"` // the module in which the tree was listed
}

// Graph is a package graph, by import path.
type Graph map[string]*Package

// Load lists the packages that patterns match in the folder dir, and all that they import.
func Load(ctx context.Context, dir string, patterns ...string) (Graph, error) {
	args := append([]string{"list", "-json=ImportPath,Name,Standard,Module,Imports,TestImports,XTestImports,ImportMap", "-deps"}, patterns...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("listing packages: %w: %s", err, stderr.Bytes())
	}
	return Decode(bytes.NewReader(out))
}

// Decode reads the concatenated JSON objects that `go list -json` prints.
func Decode(r io.Reader) (Graph, error) {
	graph := make(Graph)
	for decoder := json.NewDecoder(r); ; {
		var p Package
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return graph, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decoding the package list: %w", err)
		}
		graph[p.ImportPath] = &p
	}
}

// own returns the paths of the main module's packages, sorted.
func (g Graph) own() []string {
	var paths []string
	for path, p := range g {
		if p.isOwn() {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// linked walks what the program or package at path links, nearest first, and yields each
// package of a module other than the main one with the chain of imports that leads to it.
// The order, and so each chain, is the same in every run.
func (g Graph) linked(path string, yield func(p *Package, chain []string)) {
	from := map[string]string{path: ""}
	for queue := []string{path}; len(queue) > 0; queue = queue[1:] {
		at := g[queue[0]]
		if at == nil || at.Standard {
			continue
		}
		if !at.isOwn() {
			yield(at, chain(from, queue[0]))
		}
		for _, imported := range slices.Sorted(slices.Values(at.Imports)) {
			if mapped, ok := at.ImportMap[imported]; ok {
				imported = mapped
			}
			if _, seen := from[imported]; !seen {
				from[imported] = queue[0]
				queue = append(queue, imported)
			}
		}
	}
}

// chain follows from back to the start.
func chain(from map[string]string, path string) []string {
	var steps []string
	for ; path != ""; path = from[path] {
		steps = append(steps, path)
	}
	slices.Reverse(steps)
	return steps
}

// isOwn says whether the package is of the main module.
func (p *Package) isOwn() bool { return p.Module != nil && p.Module.Main }

// modulePath returns the path of the package's module, "" for the standard library.
func (p *Package) modulePath() string {
	if p.Module == nil {
		return ""
	}
	return p.Module.Path
}

// within says whether path is tree or lies below it.
func within(path, tree string) bool {
	return path == tree || strings.HasPrefix(path, tree+"/")
}
