package text

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

var errUnsupported = errors.New("not supported")

func (s *settings) readNormalizer(c component) error {
	switch c.Type {
	case "NFC":
		s.rewrites = append(s.rewrites, compose)
	case "Prepend":
		if c.Prepend == "" {
			return errors.New("prepends nothing")
		}
		s.rewrites = append(s.rewrites, prepending(c.Prepend))
	case "Replace":
		pattern, err := c.literal()
		if err != nil {
			return err
		}
		s.rewrites = append(s.rewrites, replacing(pattern, c.Content))
	default:
		return errUnsupported
	}
	return nil
}

// literal returns the pattern of a Replace component.
func (c *component) literal() (string, error) {
	switch {
	case c.Pattern.Regex != nil:
		return "", fmt.Errorf("pattern %q: a Regex is %w", *c.Pattern.Regex, errUnsupported)
	case c.Pattern.String == nil || *c.Pattern.String == "":
		return "", errors.New("no pattern")
	}
	return *c.Pattern.String, nil
}

// readDecoder adds a decoder. What is made in each token must come first, then byte fallback, then Fuse, then Strip:
// that is the order of all known files, and in any other one a token would depend on its neighbours in more ways.
func (s *settings) readDecoder(c component) error {
	d := &s.decoder
	if d.codesBytes || d.space != "" {
		return fmt.Errorf("behind ByteLevel or Metaspace: %w", errUnsupported)
	}
	alone := len(d.replacements) == 0 && !d.fallsBack && !d.fuses
	switch c.Type {
	case "ByteLevel":
		if !alone {
			return fmt.Errorf("behind other decoders: %w", errUnsupported)
		}
		d.codesBytes = true
	case "Metaspace":
		scheme, err := c.prefixScheme()
		if err != nil {
			return err
		}
		if !alone {
			return fmt.Errorf("behind other decoders: %w", errUnsupported)
		}
		d.space, d.dropsFirst = c.Replacement, scheme != prefixNever
	case "Replace":
		pattern, err := c.literal()
		if err != nil {
			return err
		}
		if d.fallsBack || d.fuses {
			return fmt.Errorf("behind ByteFallback or Fuse: %w", errUnsupported)
		}
		d.replacements = append(d.replacements, [2]string{pattern, c.Content})
	case "ByteFallback":
		if d.fallsBack || d.fuses {
			return fmt.Errorf("behind ByteFallback or Fuse: %w", errUnsupported)
		}
		d.fallsBack = true
	case "Fuse":
		d.fuses = true
	case "Strip":
		return d.readStrip(c)
	default:
		return errUnsupported
	}
	return nil
}

func (s *decoderSettings) readStrip(c component) error {
	stripped, _ := utf8.DecodeRuneInString(c.Content)
	switch {
	case !isCharacter(c.Content) || stripped == utf8.RuneError:
		return fmt.Errorf("content %q is not one character", c.Content)
	case !s.fuses || s.strips > 0:
		return fmt.Errorf("not right behind Fuse: %w", errUnsupported)
	case c.Stop != 0 || c.Start < 0 || c.Start > maxStrips:
		return fmt.Errorf("start %d, stop %d: %w", c.Start, c.Stop, errUnsupported)
	}
	s.strips, s.stripped = c.Start, stripped
	return nil
}

// prefixScheme returns the scheme of a Metaspace component, and checks it.
func (c *component) prefixScheme() (prefixScheme, error) {
	scheme := prefixAlways
	if c.PrependScheme != nil {
		var ok bool
		if scheme, ok = prefixSchemes[*c.PrependScheme]; !ok {
			return 0, fmt.Errorf("prepend_scheme %q: %w", *c.PrependScheme, errUnsupported)
		}
	}
	if !isTrue(c.AddPrefixSpace) && scheme != prefixNever {
		return 0, errors.New("add_prefix_space does not match prepend_scheme")
	}
	if !isCharacter(c.Replacement) {
		return 0, fmt.Errorf("replacement %q is not one character", c.Replacement)
	}
	return scheme, nil
}

// preTokenizer collects the steps of a pre-tokenizer.
type preTokenizer struct {
	splits       []splitter
	marker       marker
	markedSplits []splitter // those behind the marker
	bytes        bool       // ByteLevel has been read; nothing may follow it, since it changes the text
}

func (p *preTokenizer) add(s splitter) {
	if p.marker.space != "" {
		p.markedSplits = append(p.markedSplits, s)
	} else {
		p.splits = append(p.splits, s)
	}
}

func (p *preTokenizer) mark(m marker) error {
	if p.marker.space != "" {
		return fmt.Errorf("behind Metaspace: %w", errUnsupported)
	}
	p.marker = m
	return nil
}

func (p *preTokenizer) read(c component) error {
	if p.bytes {
		return errors.New("must not follow ByteLevel")
	}
	switch c.Type {
	case "ByteLevel":
		p.bytes = true
		if isTrue(c.AddPrefixSpace) {
			if err := p.mark(marker{" ", prefixAlways}); err != nil {
				return err
			}
		}
		if isTrue(c.UseRegex) {
			p.add(scannerSplitter{scanGPT2})
		}
	case "Metaspace":
		scheme, err := c.prefixScheme()
		if err != nil {
			return err
		}
		if err := p.mark(marker{c.Replacement, scheme}); err != nil {
			return err
		}
		if isTrue(c.Split) {
			split, err := newLiteralSplit(c.Replacement, mergedWithNext, false)
			if err != nil {
				return err
			}
			p.add(split)
		}
	case "Digits":
		p.add(newDigits(c.IndividualDigits))
	case "Split":
		split, err := c.split()
		if err != nil {
			return err
		}
		p.add(split)
	default:
		return errUnsupported
	}
	return nil
}

// split makes the splitter of a Split component.
func (c *component) split() (splitter, error) {
	b, ok := behaviors[c.Behavior]
	switch {
	case !ok:
		return nil, fmt.Errorf("behavior %q: %w", c.Behavior, errUnsupported)
	case c.Pattern.Regex != nil:
		return newSplit(*c.Pattern.Regex, b, c.Invert)
	case c.Pattern.String != nil:
		return newLiteralSplit(*c.Pattern.String, b, c.Invert)
	}
	return nil, errors.New("no pattern")
}
