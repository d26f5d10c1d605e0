package catalogue

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // formats that the Image Assistant accepts
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	_ "golang.org/x/image/bmp"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// maxPicture bounds an icon's file before it is understood, in bytes. 256×256
// pixels take 256 KiB as a BMP.
const maxPicture = 2 << 20

// Errors of ReadIcon.
var (
	ErrIconType = errors.New("the icon is not a PNG, JPEG or BMP picture")
	ErrIconSize = fmt.Errorf("the icon is larger than %d×%d pixels", agentapi.MaxIconSize, agentapi.MaxIconSize)
)

// IconExtensions are those of the files that may be icons.
var IconExtensions = []string{".png", ".jpg", ".jpeg", ".bmp"}

// ReadIcon reads the picture in file, checks its size and returns it as PNG.
func ReadIcon(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(ErrIconType, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPicture+1))
	if err != nil {
		return nil, err
	}
	return convertIcon(text)
}

func convertIcon(text []byte) ([]byte, error) {
	if len(text) > maxPicture {
		return nil, ErrIconSize
	}
	// The size is in the first bytes: a picture that would fill the memory is
	// never decoded.
	config, _, err := image.DecodeConfig(bytes.NewReader(text))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrIconType, err)
	case config.Width < 1 || config.Height < 1:
		return nil, ErrIconType
	case config.Width > agentapi.MaxIconSize || config.Height > agentapi.MaxIconSize:
		return nil, ErrIconSize
	}
	picture, _, err := image.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIconType, err)
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&out, picture); err != nil {
		return nil, err
	}
	if out.Len() > maxIcon {
		return nil, ErrIconSize
	}
	return out.Bytes(), nil
}

// DefaultIcon looks for the icon of the program at path as desktops do: in the
// desktop entry that starts it, or what path links to (gimp is gimp-2.10). A
// program without an entry may still have an icon of its name. root is "/" but
// in tests. It returns nil when there is none.
func DefaultIcon(root, path string) []byte {
	target, err := filepath.EvalSymlinks(filepath.Join(root, path))
	if err == nil {
		target, err = filepath.Rel(root, target)
	}
	if err != nil {
		target = path
	}
	for _, share := range []string{"usr/local/share", "usr/share"} {
		entries, _ := filepath.Glob(filepath.Join(root, share, "applications", "*.desktop"))
		for _, file := range entries {
			f, err := os.Open(file)
			if err != nil {
				continue
			}
			text, err := io.ReadAll(io.LimitReader(f, 256<<10))
			f.Close()
			if err != nil {
				continue
			}
			if program, icon := parseDesktopEntry(text); icon != "" && (starts(program, path) || starts(program, filepath.Join("/", target))) {
				if found := findIcon(root, icon); found != nil {
					return found
				}
			}
		}
	}
	return findIcon(root, filepath.Base(path))
}

// starts says whether an entry's program, a name or a path, is the file path.
func starts(program, path string) bool {
	if filepath.IsAbs(program) {
		return program == path
	}
	return program != "" && program == filepath.Base(path)
}

// parseDesktopEntry returns the program that a desktop entry starts (the first
// word of Exec) and its icon (a name or a path).
func parseDesktopEntry(text []byte) (program, icon string) {
	main := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			main = line == "[Desktop Entry]"
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !main || !ok {
			continue
		}
		switch strings.TrimSpace(key) {
		case "Exec":
			program = firstWord(strings.TrimSpace(value))
		case "Icon":
			icon = strings.TrimSpace(value)
		}
	}
	return program, icon
}

// firstWord takes the first word of a command, which may be in double quotes
// with backslashes.
func firstWord(s string) string {
	if !strings.HasPrefix(s, `"`) {
		word, _, _ := strings.Cut(s, " ")
		return word
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String()
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// findIcon returns the best picture of an icon: the largest one that is not
// too large.
func findIcon(root, icon string) []byte {
	var files []string
	if filepath.IsAbs(icon) {
		files = []string{filepath.Join(root, icon)}
	} else {
		icon = strings.TrimSuffix(filepath.Base(icon), ".png")
		name := globQuote(icon) + ".png"
		for _, share := range []string{"usr/local/share", "usr/share"} {
			sized, _ := filepath.Glob(filepath.Join(root, share, "icons/*/*x*/apps", name))
			slices.SortStableFunc(sized, func(a, b string) int { return iconSize(b) - iconSize(a) })
			files = append(append(files, sized...), filepath.Join(root, share, "pixmaps", icon+".png"))
		}
	}
	for _, file := range files {
		if !slices.Contains(IconExtensions, strings.ToLower(filepath.Ext(file))) {
			continue
		}
		if png, err := ReadIcon(file); err == nil {
			return png
		}
	}
	return nil
}

// iconSize is the size in a path of an icon theme, …/48x48/apps/NAME.png.
func iconSize(file string) int {
	width, _, _ := strings.Cut(filepath.Base(filepath.Dir(filepath.Dir(file))), "x")
	n, _ := strconv.Atoi(width)
	return n
}

func globQuote(s string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(s)
}
