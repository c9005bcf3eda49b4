"""Membership inference: was this unit among the records that the model was trained on?"""
