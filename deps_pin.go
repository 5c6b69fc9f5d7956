//go:build pin

package main

import (
	_ "github.com/ardanlabs/jinja"
	_ "github.com/dlclark/regexp2/v2"
	_ "github.com/gofrs/flock"
	_ "github.com/gpustack/gguf-parser-go"
	_ "github.com/knadh/koanf/parsers/yaml"
	_ "github.com/knadh/koanf/providers/env/v2"
	_ "github.com/knadh/koanf/providers/file"
	_ "github.com/knadh/koanf/providers/posflag"
	_ "github.com/knadh/koanf/providers/confmap"
	_ "github.com/knadh/koanf/v2"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/spf13/cobra"
	_ "github.com/vbauerster/mpb/v8"
	_ "github.com/vbauerster/mpb/v8/decor"
	_ "go.uber.org/goleak"
	_ "golang.org/x/sys/cpu"
	_ "golang.org/x/term"
	_ "pgregory.net/rapid"
)
