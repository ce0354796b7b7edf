package gpu

// tileLayout says how a matrix lies on the device: in parts, of each so many bytes for a tile of 16 outputs.
type tileLayout struct {
	tiles int
	parts []tilePart
	// pack writes a tile's parts, which are zero before. Workers call it for different tiles at once.
	pack func(worker, tile int, parts [][]byte)
	// release gives back what was read of the files.
	release func()
}

// tilePart is one part of a matrix: where that of the first tile lies, and the bytes of each.
type tilePart struct {
	to    Address
	bytes int
}

// uploadPieceBytes is how much of a matrix is packed before it goes up.
const uploadPieceBytes = 64 << 20

// uploadTiles packs a matrix with all workers, and uploads it, piece by piece: beside what the device holds, the memory of the host has
// no more than a piece and what was read for it.
func (b *Backend) uploadTiles(l *tileLayout) error {
	if b.unread {
		return b.uploadZeros(l)
	}
	each := 0
	for _, part := range l.parts {
		each += part.bytes
	}
	piece := min(max(uploadPieceBytes/max(each, 1), 1), l.tiles)
	buffers := b.pieces(piece, l.parts)
	for from := 0; from < l.tiles; from += piece {
		count := min(piece, l.tiles-from)
		b.team.Share(count, 1, func(worker, first, end int) {
			parts := make([][]byte, len(l.parts))
			for tile := first; tile < end; tile++ {
				for i, part := range l.parts {
					parts[i] = buffers[i][tile*part.bytes:][:part.bytes]
					clear(parts[i])
				}
				l.pack(worker, from+tile, parts)
			}
		})
		for i, part := range l.parts {
			if part.bytes == 0 {
				continue
			}
			if err := b.device.Upload(part.to+Address(from*part.bytes), buffers[i][:count*part.bytes]); err != nil {
				return err
			}
		}
		l.release()
	}
	return nil
}

// uploadZeros uploads as many zeros as a matrix has bytes.
func (b *Backend) uploadZeros(l *tileLayout) error {
	for _, part := range l.parts {
		if part.bytes == 0 {
			continue
		}
		if err := b.device.Upload(part.to, make([]byte, l.tiles*part.bytes)); err != nil {
			return err
		}
	}
	return nil
}

// pieces returns memory for a piece of each part, until the next call.
func (b *Backend) pieces(tiles int, parts []tilePart) [][]byte {
	buffers, total := make([][]byte, len(parts)), 0
	for _, part := range parts {
		total += tiles * part.bytes
	}
	if len(b.piece) < total {
		b.piece = make([]byte, total)
	}
	memory := b.piece
	for i, part := range parts {
		buffers[i], memory = memory[:tiles*part.bytes], memory[tiles*part.bytes:]
	}
	return buffers
}
