package masks

// SetLimit sets how many bytes a guide keeps before it begins anew.
func (g *Guide) SetLimit(bytes int) { g.limit = bytes }

// Age counts how often a guide began anew.
func (g *Guide) Age() int { return g.age }

// MaxGuides is how many guides a store keeps.
const MaxGuides = maxGuides
