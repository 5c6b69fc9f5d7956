package probe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
)

// list holds plain words, most of which are one token each.
var list = strings.Fields(`
about above across after again air almost along also always animal another answer around ask away back ball bank
base bear beautiful because become bed before began behind believe below best better between big bird black blue boat
body book both box boy bread bring brother brought build built busy call came car care carry cat center certain chair
change check child church circle city clean clear close cloud cold color come common complete cook corner cost could
country course cover cross cry cut dance dark day deep did different distance dog done door down draw dream dress
drink drive dry during each early earth east eat edge egg eight either else end engine enough even evening ever every
example eye face fact fall family famous far farm fast father feel feet few field fight figure final find fine fire
first fish five floor flower fly follow food foot force forest form four free friend from front full game garden gave
girl give glass gold gone good government grass great green ground group grow guess had half hand happen happy hard
have head hear heart heat heavy help her here high hill hold home horse hot hour house human hundred hunt ice idea
inch inside instead interest island job join jump keep kind king knew know lake land language large last laugh law
lead learn leave left less letter level life light like line listen little live long look lost love low machine made
main make man many map mark market matter mean measure meet milk mind minute mix modern money month moon more morning
most mother mountain mouth move much music name near need never new next night nine north nose note nothing notice
number object ocean off often old once one only open order other over own page paint pair paper part party pass past
path pay people perhaps person picture piece place plain plan plane plant play point poor port possible pound power
present press problem produce pull put question quick quiet race rain reach read ready real reason record red rest
rich ride right ring river road rock room round rule run said sail salt same sand save say school science sea season
seat second see seed sell send sentence serve set seven several shape ship shop short show side sign silver simple
sing sister six size skin sky sleep slow small snow soft soil some song soon sound south space speak special spell
spring square stand star start state stay step still stone stood stop store story street strong student study such
summer sun sure surface table tail take talk tall teach team tell ten test than their there thing think third thought
thousand three through time together told too took top town travel tree trip true try turn two type uncle under unit
until use usual valley very village visit voice wait walk wall want war warm watch water wave way weather week weight
well went west wheel when where while white whole wide wife wild will wind window winter wish with woman wonder wood
word work world write wrong yard year yellow yes yet you young`)

// Words makes texts that nobody has seen: the same seed gives the same texts.
type Words struct {
	mu  sync.Mutex
	rng *rand.Rand
}

// NewWords are those of a seed.
func NewWords(seed uint64) *Words { return &Words{rng: rand.New(rand.NewPCG(seed, 0))} }

// draw picks n words.
func (w *Words) draw(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]string, n)
	for i := range out {
		out[i] = list[w.rng.IntN(len(list))]
	}
	return out
}

// Text is n words.
func (w *Words) Text(n int) string { return strings.Join(w.draw(n), " ") }

// Counter says how many tokens a text has.
type Counter func(ctx context.Context, text string) (int, error)

// Sized makes a text of exactly want tokens, as count counts them.
func (w *Words) Sized(ctx context.Context, count Counter, want int) (string, error) {
	pick := w.draw(want)
	for range 40 {
		text := strings.Join(pick, " ")
		got, err := count(ctx, text)
		switch {
		case err != nil:
			return "", err
		case got == want:
			return text, nil
		case got < want:
			pick = append(pick, w.draw(want-got)...)
		default:
			pick = pick[:max(0, len(pick)-(got-want))]
		}
	}
	return "", fmt.Errorf("could not make a text of exactly %d tokens", want)
}
