"""Measurements that 'make bench' prints. Never imported by the product."""
