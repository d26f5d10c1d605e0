package sound

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/thesyncim/gopus"

	"github.com/oriel-project/oriel/internal/agentapi"
)

const (
	channels     = 2
	bitRate      = 96_000
	frameSamples = agentapi.SoundRate * int(agentapi.SoundFrame) / int(time.Second) // of each channel
	frameBytes   = frameSamples * channels * 2
	// tail is how many frames of silence follow a sound, so that what the
	// decoder still has of it fades out.
	tail = 5
)

// encoder makes packets of Opus from samples.
type encoder struct {
	opus    *gopus.Encoder
	samples []float32
	packet  [agentapi.MaxPacket]byte
	silent  int // frames of silence so far
}

func newEncoder() (*encoder, error) {
	opus, err := gopus.NewEncoder(gopus.EncoderConfig{SampleRate: agentapi.SoundRate, Channels: channels, Application: gopus.ApplicationAudio})
	if err != nil {
		return nil, fmt.Errorf("encode sound: %w", err)
	}
	if err := opus.SetBitrate(bitRate); err != nil {
		return nil, fmt.Errorf("encode sound: %w", err)
	}
	if err := opus.SetFrameSize(frameSamples); err != nil {
		return nil, fmt.Errorf("encode sound: %w", err)
	}
	return &encoder{opus: opus, samples: make([]float32, frameSamples*channels), silent: tail}, nil
}

// encode gives the packet for one frame of samples, 16 bits each, little
// endian; or nothing for a frame of silence that follows others.
func (e *encoder) encode(frame []byte) ([]byte, error) {
	silent := true
	for i := range e.samples {
		v := int16(binary.LittleEndian.Uint16(frame[2*i:]))
		silent = silent && v == 0
		e.samples[i] = float32(v) / (1 << 15)
	}
	if !silent {
		e.silent = 0
	} else if e.silent++; e.silent > tail {
		e.silent = tail + 1
		return nil, nil
	}
	n, err := e.opus.Encode(e.samples, e.packet[:])
	if err != nil {
		return nil, fmt.Errorf("encode sound: %w", err)
	}
	return bytes.Clone(e.packet[:n]), nil
}
