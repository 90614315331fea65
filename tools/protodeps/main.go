// Command protodeps prints the proto files that Trialog's own ones import out of
// the Go modules that this module links, so that generating code needs no network
// and no schema registry: generator, runtime and imported definitions all come from
// one go.mod.
//
//	go run ./tools/protodeps            write tools/protodeps/proto
//	go run ./tools/protodeps -check     say what differs, and fail
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	// Linked for the descriptors that they register.
	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	_ "github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2/options"
	"github.com/jhump/protoreflect/v2/protoprint"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/api/httpbody"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	_ "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// roots are the files that protos of ours may import; what these import comes along.
func roots() []string {
	return []string{
		"buf/validate/validate.proto",
		"google/api/annotations.proto",
		"google/api/field_behavior.proto",
		"google/api/httpbody.proto",
		"google/rpc/error_details.proto",
		"google/rpc/status.proto",
		"protoc-gen-openapiv2/options/annotations.proto",
	}
}

// compilerOwned marks the well-known types: buf and protoc bring them themselves,
// and a second copy would be a conflict.
const compilerOwned = "google/protobuf/"

// header stands above every printed file.
const header = "// Printed by tools/protodeps from a linked Go module; do not edit.\n" +
	"// Licence and copyright: see NOTICE.\n\n"

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "protodeps:", err)
		os.Exit(1)
	}
}

// run parses args, and writes or checks the folder they name; paths that were
// written, or that differ, go to out.
func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("protodeps", flag.ContinueOnError)
	dir := flags.String("dir", "tools/protodeps/proto", "folder of the printed files")
	check := flags.Bool("check", false, "compare with the folder instead of writing it")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("parsing arguments: %w", err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	want, err := printAll(protoregistry.GlobalFiles, roots())
	if err != nil {
		return err
	}
	if *check {
		return checkDir(*dir, want, out)
	}
	return writeDir(*dir, want, out)
}

// printAll returns the source text of the named files and of all that they import,
// by import path.
func printAll(linked *protoregistry.Files, names []string) (map[string]string, error) {
	texts := make(map[string]string)
	printer := protoprint.Printer{SortElements: true}
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		if _, done := texts[name]; done || strings.HasPrefix(name, compilerOwned) {
			continue
		}
		file, err := linked.FindFileByPath(name)
		if errors.Is(err, protoregistry.NotFound) {
			return nil, fmt.Errorf("%s is linked by no package that this program imports", name)
		}
		if err != nil {
			return nil, fmt.Errorf("finding %s: %w", name, err)
		}
		var text strings.Builder
		text.WriteString(header)
		if err := printer.PrintProtoFile(file, &text); err != nil {
			return nil, fmt.Errorf("printing %s: %w", name, err)
		}
		texts[name] = text.String()
		names = append(names, imports(file)...)
	}
	return texts, nil
}

// imports lists the paths that file imports.
func imports(file protoreflect.FileDescriptor) []string {
	list := file.Imports()
	paths := make([]string, list.Len())
	for i := range paths {
		paths[i] = list.Get(i).Path()
	}
	return paths
}
