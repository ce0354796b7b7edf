package membership

// Abandon stops the member without a word, as a death does.
func (m *Membership) Abandon() {
	close(m.stop)
	m.done.Wait()
	_ = m.list.Shutdown()
}
