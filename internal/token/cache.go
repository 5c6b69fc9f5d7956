package token

import (
	"strings"
	"sync"
)

const (
	cachedWordBytes = 64      // longer words are rare and not kept
	cachedWords     = 1 << 14 // per generation
)

// wordCache remembers the tokens of words.
//   - It holds at most two generations of cachedWords; a full young generation
//     becomes the old one, which is forgotten.
//   - A word found in the old generation moves to the young one.
type wordCache struct {
	mu         sync.RWMutex
	young, old map[string][]Piece // tokens with ends counted from the word's start
}

func (c *wordCache) get(word string) ([]Piece, bool) {
	if len(word) > cachedWordBytes {
		return nil, false
	}
	c.mu.RLock()
	tokens, young := c.young[word]
	old := false
	if !young {
		tokens, old = c.old[word]
	}
	c.mu.RUnlock()
	if old {
		c.put(word, tokens)
	}
	return tokens, young || old
}

func (c *wordCache) put(word string, tokens []Piece) {
	if len(word) > cachedWordBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= cachedWords {
		c.old, c.young = c.young, make(map[string][]Piece, cachedWords/8)
	}
	c.young[strings.Clone(word)] = tokens // a view would keep the whole text alive
}
