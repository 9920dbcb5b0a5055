// Package config reads what tablecloth run is to keep: from a file, or from its
// flags. Both are made of the same options, of which there is one list.
//
// The file is YAML 1.2. Everything that is wrong with it has a position in it,
// and says what was meant, as far as that can be guessed.
package config
