package trace

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// Settings are where spans go and how.
type Settings struct {
	Endpoint   string            // the URL that spans are posted to; "": there is no tracing
	Headers    http.Header       // of each post
	Timeout    time.Duration     // for a batch, with its repetitions
	Delay      time.Duration     // how long spans are gathered to a batch
	Queue      int               // spans that may wait
	Batch      int               // spans in a post
	Attributes map[string]string // of this process
	Version    string            // of the program
}

const (
	defaultEndpoint = "http://localhost:4318"
	tracesPath      = "v1/traces"
	serviceName     = "service.name"
)

// FromEnv reads the standard variables of OpenTelemetry, as far as they are about
// spans sent by OTLP/HTTP; the SDK reads OTEL_TRACES_SAMPLER and its limits itself.
// An error says which one has an impossible value.
func FromEnv(getenv func(string) string, version string) (Settings, error) {
	env := environ{getenv: getenv}
	endpoint := env.endpoint()
	if endpoint == "" {
		return Settings{}, nil
	}
	s := Settings{
		Endpoint:   endpoint,
		Headers:    http.Header{},
		Timeout:    env.millis("EXPORTER_OTLP_TRACES_TIMEOUT", "EXPORTER_OTLP_TIMEOUT", 10_000),
		Delay:      env.millis("BSP_SCHEDULE_DELAY", "", 5_000),
		Queue:      env.count("BSP_MAX_QUEUE_SIZE", "", 2048),
		Batch:      env.count("BSP_MAX_EXPORT_BATCH_SIZE", "", 512),
		Attributes: map[string]string{serviceName: "mneme"},
		Version:    version,
	}
	for name, value := range env.pairs("EXPORTER_OTLP_TRACES_HEADERS", "EXPORTER_OTLP_HEADERS") {
		s.Headers.Set(name, value)
	}
	maps.Copy(s.Attributes, env.pairs("RESOURCE_ATTRIBUTES", ""))
	if _, name := env.get("SERVICE_NAME", ""); name != "" {
		s.Attributes[serviceName] = name
	}
	env.speaks()
	if env.err != nil {
		return Settings{}, env.err
	}
	return s, nil
}

// resource is what is said of this process.
func (s Settings) resource() []attribute.KeyValue {
	list := []attribute.KeyValue{attribute.String("service.version", s.Version)}
	for _, key := range slices.Sorted(maps.Keys(s.Attributes)) {
		list = append(list, attribute.String(key, s.Attributes[key]))
	}
	return list
}

// environ reads variables and keeps the first error.
type environ struct {
	getenv func(string) string
	err    error
}

// get is the value of the first of two variables that has one, and its name. They
// are without their OTEL_; the second is "" when there is only one.
func (e *environ) get(special, general string) (name, value string) {
	for _, name := range []string{special, general} {
		if value := strings.TrimSpace(e.getenv("OTEL_" + name)); value != "" {
			return "OTEL_" + name, value
		}
	}
	return "", ""
}

func (e *environ) wrong(name, value, want string) {
	if e.err == nil {
		e.err = fmt.Errorf("%s is %q, not %s", name, value, want)
	}
}

// endpoint is where traces go; "" when they are not wanted.
func (e *environ) endpoint() string {
	name, exporter := e.get("TRACES_EXPORTER", "")
	_, disabled := e.get("SDK_DISABLED", "")
	_, special := e.get("EXPORTER_OTLP_TRACES_ENDPOINT", "")
	_, general := e.get("EXPORTER_OTLP_ENDPOINT", "")
	switch {
	case strings.EqualFold(disabled, "true"), exporter == "none", cmp.Or(exporter, special, general) == "":
		return ""
	case exporter != "" && exporter != "otlp":
		e.wrong(name, exporter, "otlp or none")
	case special != "":
		return e.url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", special)
	}
	return e.url("OTEL_EXPORTER_OTLP_ENDPOINT", strings.TrimRight(cmp.Or(general, defaultEndpoint), "/")+"/"+tracesPath)
}

func (e *environ) url(name, value string) string {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		e.wrong(name, value, "an http or https URL")
	}
	return value
}

// speaks refuses what would have spans encoded otherwise. Who takes OTLP/HTTP takes
// it in JSON too.
func (e *environ) speaks() {
	name, protocol := e.get("EXPORTER_OTLP_TRACES_PROTOCOL", "EXPORTER_OTLP_PROTOCOL")
	if protocol != "" && protocol != "http/json" && protocol != "http/protobuf" {
		e.wrong(name, protocol, "http/json: spans are sent in JSON over HTTP, to a port that is 4318 by custom")
	}
}

func (e *environ) count(special, general string, otherwise int) int {
	name, value := e.get(special, general)
	if value == "" {
		return otherwise
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 1<<20 {
		e.wrong(name, value, "a whole number from 1 to 1048576")
	}
	return n
}

func (e *environ) millis(special, general string, otherwise int) time.Duration {
	return time.Duration(e.count(special, general, otherwise)) * time.Millisecond
}

// pairs reads name=value,name=value; values are percent-encoded.
func (e *environ) pairs(special, general string) map[string]string {
	name, value := e.get(special, general)
	list := map[string]string{}
	for pair := range strings.SplitSeq(value, ",") {
		key, text, ok := strings.Cut(pair, "=")
		plain, err := url.PathUnescape(strings.TrimSpace(text))
		switch key = strings.TrimSpace(key); {
		case strings.TrimSpace(pair) == "":
		case !ok || key == "" || err != nil:
			e.wrong(name, "…", "name=value, separated by commas, values percent-encoded") // it may be a secret
		default:
			list[key] = plain
		}
	}
	return list
}
