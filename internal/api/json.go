package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json/jsontext"
	"errors"
	"io"
	"strconv"
	"time"
)

// jsonSource reads JSON. jsontext refuses duplicate names and bytes that are not UTF-8 for us.
type jsonSource struct {
	dec *jsontext.Decoder
	buf []byte // the last key
}

func newJSONSource(body []byte) *jsonSource {
	return &jsonSource{dec: jsontext.NewDecoder(bytes.NewBuffer(body))}
}

func (j *jsonSource) peek() token {
	switch j.dec.PeekKind() {
	case jsontext.KindNull:
		return tokenNull
	case jsontext.KindTrue, jsontext.KindFalse:
		return tokenBool
	case jsontext.KindNumber:
		return tokenNumber
	case jsontext.KindString:
		return tokenString
	case jsontext.KindBeginArray:
		return tokenList
	case jsontext.KindBeginObject:
		return tokenMap
	}
	return tokenInvalid
}

func (j *jsonSource) null() error {
	_, err := j.dec.ReadToken()
	return err
}

func (j *jsonSource) bool() (bool, error) {
	t, err := j.dec.ReadToken()
	if err != nil {
		return false, err
	}
	return t.Bool(), nil
}

func (j *jsonSource) int() (int64, error) {
	raw, err := j.dec.ReadValue()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, &typeError{msg: "NUMBER_VALUE is out of range for an Integer"}
	case err != nil:
		return 0, &typeError{msg: "NUMBER_VALUE with a fraction or exponent can not be converted to an Integer"}
	}
	return n, nil
}

func (j *jsonSource) string() (string, error) {
	t, err := j.dec.ReadToken()
	if err != nil {
		return "", err
	}
	return t.String(), nil
}

func (j *jsonSource) bytes() ([]byte, error) {
	s, err := j.string()
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, &typeError{msg: "STRING_VALUE that is not base64 can not be converted to a Blob"}
	}
	return b, nil
}

func (j *jsonSource) time() (time.Time, error) {
	raw, err := j.dec.ReadValue()
	if err != nil {
		return time.Time{}, err
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return time.Time{}, &typeError{msg: "NUMBER_VALUE is out of range for a Timestamp"}
	}
	return epoch(f)
}

func (j *jsonSource) open() error {
	if _, err := j.dec.ReadToken(); err != nil {
		return err
	}
	if j.dec.StackDepth() > maxDepth {
		return errDepth
	}
	return nil
}

func (j *jsonSource) more() (bool, error) {
	if k := j.dec.PeekKind(); k != jsontext.KindEndObject && k != jsontext.KindEndArray && k != jsontext.KindInvalid {
		return true, nil
	}
	_, err := j.dec.ReadToken()
	return false, err
}

func (j *jsonSource) key() ([]byte, error) {
	raw, err := j.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	j.buf, err = jsontext.AppendUnquote(j.buf[:0], raw)
	return j.buf, err
}

func (j *jsonSource) skip() error {
	depth := j.dec.StackDepth()
	for {
		if _, err := j.dec.ReadToken(); err != nil {
			return err
		}
		switch now := j.dec.StackDepth(); {
		case now > maxDepth:
			return errDepth
		case now == depth:
			return nil
		}
	}
}

func (j *jsonSource) end() error {
	_, err := j.dec.ReadToken()
	switch {
	case err == io.EOF:
		return nil
	case err == nil:
		return errors.New("more follows after the request")
	}
	return err
}
