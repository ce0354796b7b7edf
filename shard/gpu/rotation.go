package gpu

import "errors"

// turns are where the cosines and sines of a kind of rotation lie, [row][half], and the scales of queries, [row]; or all of them by
// position.
type turns struct {
	cos, sin, queryScales Address
	byPosition            int32
}

// maxTurnBytes bounds what a rotation of all positions takes on the device.
const maxTurnBytes = 256 << 20

// layTurns computes how positions turn, where the position alone says so; else each step is told.
func (b *Backend) layTurns() error {
	b.turns = make([]turns, len(b.part.Rotations))
	positions := min(b.config.MaxPositions, b.blocks*blockTokens)
	for kind, rotation := range b.part.Rotations {
		half := rotation.Half()
		if rotation.DependsOnLength() || 8*positions*half > maxTurnBytes {
			continue
		}
		cos, sin, scales := make([]float32, positions*half), make([]float32, positions*half), make([]float32, positions)
		b.team.Share(positions, 256, func(_, from, to int) {
			for position := from; position < to; position++ {
				rotation.Fill(cos[position*half:][:half], sin[position*half:][:half], position, positions)
				scales[position] = rotation.QueryScale(position)
			}
		})
		t := &b.turns[kind]
		var err [3]error
		t.cos, err[0] = b.tell(bytesOf(cos))
		t.sin, err[1] = b.tell(bytesOf(sin))
		t.queryScales, err[2] = b.tell(bytesOf(scales))
		if err := errors.Join(err[:]...); err != nil {
			return err
		}
		t.byPosition = 1
	}
	return nil
}

// putTurns says how a kind of rotation turns the rows.
func (b *Backend) putTurns(kind int) turns {
	if b.turns[kind].byPosition != 0 {
		return b.turns[kind]
	}
	rotation := b.part.Rotations[kind]
	half, rows := rotation.Half(), b.shape.rows
	angles, scales := make([]float32, 2*rows*half), make([]float32, rows)
	for i, r := range b.rows {
		rotation.Fill(angles[i*half:][:half], angles[(rows+i)*half:][:half], r.position, r.promptTokens)
		scales[i] = rotation.QueryScale(r.position)
	}
	return turns{cos: put(b, angles[:rows*half]), sin: put(b, angles[rows*half:]), queryScales: put(b, scales)}
}
