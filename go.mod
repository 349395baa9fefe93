module github.com/sluice-mqtt/sluice

go 1.26
