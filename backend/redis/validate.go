package redis

import (
	"errors"
	"fmt"
)

// Validate checks what can be checked without asking Redis.
func (o Options) Validate() error {
	o.setDefaults()
	a, err := parseURL(o.URL)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if a.clustered && o.WaitReplicas > 0 {
		return errors.New("redis: replicas of a cluster can not be waited for")
	}
	return nil
}
