package token

import (
	"encoding/binary"
	"math"
	"strconv"
)

// Fields and values of SentencePiece's ModelProto, as modelProto writes them:
//
//	ModelProto      1 pieces…  2 trainer_spec  3 normalizer_spec
//	SentencePiece   1 piece (string)  2 score (float)  3 type
//	TrainerSpec     3 model_type  35 byte_fallback
//	NormalizerSpec  3 add_dummy_prefix  4 remove_extra_whitespaces  5 escape_whitespaces
const (
	pieceNormal  = 1
	pieceUnknown = 2
	pieceControl = 3
	pieceByte    = 6
	modelTypeBPE = 2
)

// proto is a protocol buffer message in the making.
type proto []byte

func (p *proto) number(field int, n uint64) {
	*p = binary.AppendUvarint(*p, uint64(field)<<3)
	*p = binary.AppendUvarint(*p, n)
}

func (p *proto) float(field int, f float32) {
	*p = binary.AppendUvarint(*p, uint64(field)<<3|5)
	*p = binary.LittleEndian.AppendUint32(*p, math.Float32bits(f))
}

func (p *proto) bytes(field int, b string) {
	*p = binary.AppendUvarint(*p, uint64(field)<<3|2)
	*p = binary.AppendUvarint(*p, uint64(len(b)))
	*p = append(*p, b...)
}

// modelProto writes a vocabulary as a SentencePiece model, token i as piece i.
//   - Tokens that do not come about by merging (control and user-defined ones,
//     which are cut out of the text before) get names that no text has.
//   - One piece more, at the end, is the unknown one that every model has; with
//     byte fallback it never comes out.
func modelProto(v Vocab, types []int32) []byte {
	var model, trainer, normalizer proto
	for i, text := range v.Tokens {
		piece := onePiece(i, text, v.Scores[i], types[i])
		model.bytes(1, string(piece))
	}
	model.bytes(1, string(namedPiece("unknown", 0, pieceUnknown)))
	trainer.number(3, modelTypeBPE)
	trainer.number(35, 1)
	for field, on := range map[int]uint64{3: 0, 4: 0, 5: 1} {
		normalizer.number(field, on)
	}
	model.bytes(2, string(trainer))
	model.bytes(3, string(normalizer))
	return model
}

func onePiece(i int, text string, score float32, kind int32) proto {
	_, isByte := byteValue(text)
	switch {
	case kind == typeByte && isByte:
		return namedPiece(text, 0, pieceByte)
	case merges(kind):
		return namedPiece(text, score, pieceNormal)
	}
	return namedPiece("\x00\x00"+strconv.Itoa(i), 0, pieceControl)
}

func namedPiece(text string, score float32, kind uint64) (p proto) {
	p.bytes(1, text)
	p.float(2, score)
	p.number(3, kind)
	return p
}
