package api

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"
	"unicode/utf8"
)

// The major types of CBOR (RFC 8949, section 3.1).
const (
	majorUint = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

const (
	cborIndefinite = 31   // additional information: the length is not given, a break ends it
	cborBreak      = 0xff // ends an item of indefinite length
	tagEpoch       = 1    // a number of seconds since 1970
)

// cborSource reads the CBOR that Smithy's RPC v2 uses: text keys, tag 1 for timestamps, definite and indefinite
// lengths. It never believes a length: memory is only taken for bytes that are there.
type cborSource struct {
	b    []byte  // what is left
	nest []int64 // members left in each list and map around the next value; -1 when a break ends it
}

func newCBORSource(body []byte) *cborSource { return &cborSource{b: body} }

func (c *cborSource) peek() token {
	if len(c.b) == 0 {
		return tokenInvalid
	}
	switch c.b[0] >> 5 {
	case majorUint, majorNegative:
		return tokenNumber
	case majorBytes:
		return tokenBytes
	case majorText:
		return tokenString
	case majorArray:
		return tokenList
	case majorMap:
		return tokenMap
	case majorTag:
		if c.b[0]&31 == tagEpoch {
			return tokenTime
		}
		return "TAGGED_VALUE"
	}
	switch c.b[0] & 31 {
	case 20, 21:
		return tokenBool
	case 22, 23: // null, undefined
		return tokenNull
	case 25, 26, 27:
		return tokenNumber
	}
	return tokenInvalid
}

// head takes the first bytes of an item. For an indefinite length arg is 0.
func (c *cborSource) head() (major, info byte, arg uint64, err error) {
	if len(c.b) == 0 {
		return 0, 0, 0, io.ErrUnexpectedEOF
	}
	major, info = c.b[0]>>5, c.b[0]&31
	c.b = c.b[1:]
	switch {
	case major == majorSimple && (info < 20 || info == 24): // no such values
	case info < 24:
		return major, info, uint64(info), nil
	case info <= 27:
		p, err := c.take(1 << (info - 24))
		if err != nil {
			return 0, 0, 0, err
		}
		for _, x := range p {
			arg = arg<<8 | uint64(x)
		}
		return major, info, arg, nil
	case info == cborIndefinite && major >= majorBytes && major <= majorMap:
		return major, info, 0, nil
	}
	return 0, 0, 0, fmt.Errorf("byte %#02x cannot start a value here", major<<5|info)
}

// take takes n bytes.
func (c *cborSource) take(n uint64) ([]byte, error) {
	if n > uint64(len(c.b)) {
		return nil, io.ErrUnexpectedEOF
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p, nil
}

func (c *cborSource) null() error {
	_, _, _, err := c.head()
	return err
}

func (c *cborSource) bool() (bool, error) {
	_, info, _, err := c.head()
	return info == 21, err
}

func (c *cborSource) int() (int64, error) {
	major, _, arg, err := c.head()
	switch {
	case err != nil:
		return 0, err
	case major == majorSimple:
		return 0, &typeError{msg: "NUMBER_VALUE with a fraction or exponent can not be converted to an Integer"}
	case arg > math.MaxInt64:
		return 0, &typeError{msg: "NUMBER_VALUE is out of range for an Integer"}
	case major == majorNegative:
		return -1 - int64(arg), nil
	}
	return int64(arg), nil
}

func (c *cborSource) string() (string, error) {
	p, err := c.chunks(majorText)
	return string(p), err
}

func (c *cborSource) bytes() ([]byte, error) {
	p, err := c.chunks(majorBytes)
	if err != nil {
		return nil, err
	}
	return append([]byte{}, p...), nil
}

// chunks takes a byte or text string; one of indefinite length is a run of definite ones. What it gives may be a
// part of the body.
func (c *cborSource) chunks(want byte) ([]byte, error) {
	p, definite, err := c.chunk(want)
	if err != nil || definite {
		return p, err
	}
	p = nil
	for {
		if len(c.b) > 0 && c.b[0] == cborBreak {
			c.b = c.b[1:]
			return p, nil
		}
		q, definite, err := c.chunk(want)
		if err != nil {
			return nil, err
		}
		if !definite {
			return nil, errors.New("a string of indefinite length is inside another")
		}
		p = append(p, q...)
	}
}

func (c *cborSource) chunk(want byte) (p []byte, definite bool, err error) {
	major, info, n, err := c.head()
	if err != nil {
		return nil, false, err
	}
	if major != want {
		return nil, false, fmt.Errorf("a string has a part of major type %d, want %d", major, want)
	}
	if info == cborIndefinite {
		return nil, false, nil
	}
	if p, err = c.take(n); err != nil {
		return nil, false, err
	}
	if want == majorText && !utf8.Valid(p) {
		return nil, false, errors.New("a text string is not UTF-8")
	}
	return p, true, nil
}

func (c *cborSource) time() (time.Time, error) {
	if _, _, _, err := c.head(); err != nil { // the tag
		return time.Time{}, err
	}
	if t := c.peek(); t != tokenNumber && t != tokenInvalid {
		return time.Time{}, &typeError{msg: string(t) + " can not be converted to a Timestamp"}
	}
	major, info, arg, err := c.head()
	if err != nil {
		return time.Time{}, err
	}
	switch {
	case major == majorUint:
		return epoch(float64(arg))
	case major == majorNegative:
		return epoch(-1 - float64(arg))
	case info == 25:
		return epoch(float16(uint16(arg)))
	case info == 26:
		return epoch(float64(math.Float32frombits(uint32(arg))))
	}
	return epoch(math.Float64frombits(arg))
}

// float16 gives the value of a half-precision number.
func float16(h uint16) float64 {
	exp, frac := int(h>>10&31), float64(h&1023)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(frac, -24)
	case 31:
		f = math.NaN() // or an infinity; neither is a time
	default:
		f = math.Ldexp(frac+1024, exp-25)
	}
	if h>>15 != 0 {
		return -f
	}
	return f
}

func (c *cborSource) open() error {
	_, info, n, err := c.head()
	if err != nil {
		return err
	}
	if len(c.nest) == maxDepth {
		return errDepth
	}
	left := int64(-1)
	if info != cborIndefinite {
		if n > uint64(len(c.b)) { // a member has at least one byte
			return io.ErrUnexpectedEOF
		}
		left = int64(n)
	}
	c.nest = append(c.nest, left)
	return nil
}

func (c *cborSource) more() (bool, error) {
	left := &c.nest[len(c.nest)-1]
	switch {
	case *left > 0:
		*left--
		return true, nil
	case *left < 0:
		if len(c.b) == 0 {
			return false, io.ErrUnexpectedEOF
		}
		if c.b[0] != cborBreak {
			return true, nil
		}
		c.b = c.b[1:]
	}
	c.nest = c.nest[:len(c.nest)-1]
	return false, nil
}

func (c *cborSource) key() ([]byte, error) { return c.chunks(majorText) }

func (c *cborSource) skip() error {
	for len(c.b) > 0 && c.b[0]>>5 == majorTag {
		if _, _, _, err := c.head(); err != nil {
			return err
		}
	}
	switch c.peek() {
	case tokenBytes:
		_, err := c.chunks(majorBytes)
		return err
	case tokenString:
		_, err := c.chunks(majorText)
		return err
	case tokenList, tokenMap:
		isMap := c.peek() == tokenMap
		if err := c.open(); err != nil {
			return err
		}
		for {
			more, err := c.more()
			if !more {
				return err
			}
			if isMap {
				if _, err := c.key(); err != nil {
					return err
				}
			}
			if err := c.skip(); err != nil {
				return err
			}
		}
	}
	_, _, _, err := c.head()
	return err
}

func (c *cborSource) end() error {
	if len(c.b) > 0 {
		return errors.New("more follows after the request")
	}
	return nil
}
