// Command spangate judges the gateway with the OpenTelemetry Collector's own codec: it reads what
// came in and what left, as the Collector reads both, and says where they differ by more than the
// rules allow. It shares no code and no table with the gateway.
//
// The module's path stands below that of pdata, because Go lets only such a path import
// pdata/internal: the public types hide what matters here (key_strindex, entity_refs, field 1000).
// Both are read through the public door, pXotlp.ExportRequest.UnmarshalProto.
//
// usage: spangate judge          cases on standard input, verdicts on standard output (see stream.go)
//
//	spangate seeds DIR      writes one request for each signal and shape, every field of it set
package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "spangate:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 1 && arguments[0] == "judge":
		return serve(bufio.NewReaderSize(os.Stdin, 1<<20), os.Stdout)
	case len(arguments) == 2 && arguments[0] == "seeds":
		return writeSeeds(arguments[1])
	default:
		return fmt.Errorf("usage: spangate judge | spangate seeds DIR")
	}
}
