package main

type siegeTest struct{ bodies, connections int }

func (s *siegeTest) run() error { return nil }
