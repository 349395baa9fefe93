package auth

// Grant is what a token allows its client; see the package for the rules.
type Grant struct{}
