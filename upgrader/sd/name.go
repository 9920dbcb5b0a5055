package sd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// MaxName is the greatest length of a descriptor's name, in bytes: FDNAME_MAX.
const MaxName = 255

var errName = errors.New("must be at most 255 printable ASCII characters without ':'")

// ValidName reports whether systemd takes name as it is for a descriptor:
// printable ASCII without ':', at most MaxName bytes. It stores a descriptor
// with any other name as "stored".
func ValidName(name string) bool {
	if len(name) > MaxName {
		return false
	}
	for i := range len(name) {
		if !plain(name[i]) {
			return false
		}
	}
	return true
}

func plain(b byte) bool { return b >= ' ' && b < 0x7f && b != ':' }

const (
	escape    = '%'
	emptyName = "%"  // of the empty key: some receivers take no empty names
	hashMark  = "%%" // no escaped key contains it
	hashKept  = 64   // bytes of a hashed key that can still be read
)

// NameOf returns a valid name for an arbitrary key: the key itself where it can
// be, "%" and two hexadecimal digits for each byte that can't. A key for which
// that is too long ends in its hash. Different keys have different names.
func NameOf(key string) string {
	if key == "" {
		return emptyName
	}
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; plain(c) && c != escape {
			b.WriteByte(c)
		} else {
			b.WriteByte(escape)
			b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{c})))
		}
	}
	if b.Len() <= MaxName {
		return b.String()
	}
	sum := sha256.Sum256([]byte(key))
	return b.String()[:hashKept] + hashMark + hex.EncodeToString(sum[:])
}

// KeyOf returns the key whose name NameOf made; false: the name is a hashed
// one, or not one of NameOf's.
func KeyOf(name string) (key string, ok bool) {
	if name == emptyName {
		return "", true
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != escape {
			b.WriteByte(name[i])
			continue
		}
		if i+2 >= len(name) {
			return "", false
		}
		c, err := hex.DecodeString(name[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b.WriteByte(c[0])
		i += 2
	}
	key = b.String()
	return key, NameOf(key) == name
}
