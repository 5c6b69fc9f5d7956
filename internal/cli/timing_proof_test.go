package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"mneme/internal/testkit"
)

const (
	timedPairs = 100
	timedWords = 60   // of a prompt
	leastP     = 0.01 // below it two samples of times are told apart
	mostRounds = 2    // by chance each falls below once in a hundred times
)

// TestTimesTellNothing asks whether bob can find out by the time to a first token
// that ada has had the same prompt computed: 100 times he asks for one that she
// has, 100 times for one that nobody has, in random order, and a rank test must
// not tell the times apart. Times of her own prompts, asked again, it must tell
// apart, or it proves nothing. In the soak the model is SmolLM2.
func TestTimesTellNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	path, keys := newKeyFile(t, "ada", "bob")
	model := tinyModel
	if proofShare == 1 {
		model = func(t *testing.T) string { return testkit.SmolLM2(t) }
	}
	p := startServe(t, model(t), t.TempDir(), "MNEME_API_KEYS="+path)
	s := &spy{t: t, url: p.url(), keys: keys, rng: rand.New(rand.NewPCG(seed, 0))}
	s.firstToken("ada", s.prompt()) // the first of all is slower
	for round := 1; ; round++ {
		known, unknown := s.times("bob")
		differ := ranks(known, unknown)
		t.Logf("round %d: bob waits %v for what ada has computed, %v for what nobody has; p = %.3f", round, median(known), median(unknown), differ)
		if differ > leastP {
			break
		}
		if round == mostRounds {
			t.Errorf("the times tell what ada has computed: p = %v in the last of %d rounds", differ, round)
			break
		}
	}
	again, unknown := s.times("ada")
	if differ := ranks(again, unknown); differ > leastP || median(again) >= median(unknown) {
		t.Errorf("the test sees nothing: %v for what ada has computed herself, %v for what nobody has, p = %v", median(again), median(unknown), differ)
	}
}

// spy measures times to the first token.
type spy struct {
	t    *testing.T
	url  string
	keys map[string]string
	rng  *rand.Rand
}

// prompt is one that nobody has ever said.
func (s *spy) prompt() string {
	var b strings.Builder
	for range timedWords {
		for range 3 + s.rng.IntN(5) {
			b.WriteByte(byte('a' + s.rng.IntN(26)))
		}
		b.WriteByte(' ')
	}
	return b.String()
}

// times are those that a key waits for prompts that ada has asked before, and for
// prompts that nobody has. Ada asks something before each.
func (s *spy) times(key string) (known, unknown []time.Duration) {
	order := make([]bool, 2*timedPairs)
	for i := range timedPairs {
		order[i] = true
	}
	s.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, asked := range order {
		hers, other := s.prompt(), s.prompt()
		s.firstToken("ada", hers)
		if asked {
			known = append(known, s.firstToken(key, hers))
		} else {
			unknown = append(unknown, s.firstToken(key, other))
		}
	}
	return known, unknown
}

// firstToken is the time from asking to the first event of the answer.
func (s *spy) firstToken(key, prompt string) time.Duration {
	s.t.Helper()
	body, _ := json.Marshal(map[string]any{"prompt": prompt, "max_tokens": 1, "stream": true, "logprobs": 0})
	r, err := http.NewRequest(http.MethodPost, s.url+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.keys[key])
	began := time.Now()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	events := bufio.NewReader(answer.Body)
	_, err = events.ReadString('\n')
	took := time.Since(began)
	rest := new(bytes.Buffer)
	if _, all := rest.ReadFrom(events); cmp.Or(err, all) != nil || answer.StatusCode != 200 || !strings.HasSuffix(rest.String(), "data: [DONE]\n\n") {
		s.t.Fatalf("%s %s (%v)", answer.Status, rest, err)
	}
	return took
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

// ranks is the probability that two samples of one distribution differ in rank as
// much as these: Mann and Whitney's test, two-sided, in its normal approximation.
func ranks(a, b []time.Duration) float64 {
	var u float64 // pairs in which a's is the longer, ties count half
	for _, x := range a {
		for _, y := range b {
			u += float64(cmp.Compare(x, y)+1) / 2
		}
	}
	n, m := float64(len(a)), float64(len(b))
	z := (u - n*m/2) / math.Sqrt(n*m*(n+m+1)/12)
	return math.Erfc(math.Abs(z) / math.Sqrt2)
}

// The rank test itself, on samples whose answer is known.
func TestRanks(t *testing.T) {
	up := func(from, n int) (times []time.Duration) {
		for i := range n {
			times = append(times, time.Duration(from+i))
		}
		return times
	}
	for _, c := range []struct {
		a, b []time.Duration
		want string
	}{
		{up(0, 50), up(0, 50), "1.0000"},
		{up(0, 10), up(10, 10), "0.0002"}, // U = 0 of 100, z = -3.78
		{up(10, 10), up(0, 10), "0.0002"},
		{up(0, 10), up(5, 10), "0.0046"}, // U = 12.5, z = -2.83
	} {
		if got := fmt.Sprintf("%.4f", ranks(c.a, c.b)); got != c.want {
			t.Errorf("%v %v: %s, want %s", c.a, c.b, got, c.want)
		}
	}
}
